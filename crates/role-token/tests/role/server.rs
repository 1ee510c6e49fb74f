//! A server on loopback that answers as the test wants, in a process of its own: the test forks roles, for which it must have no
//! threads.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use confine::channel::{Channel, Message, Received};
use confine::process::{self, Fork, Pid};
use messages::token::{Method, Server as Place};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde::{Deserialize, Serialize};

use crate::rig::PATIENCE;

/// What it answers to a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// 200, this.
    Json(String),
    /// 200, so many octets.
    Long(usize),
    /// An empty answer with this status.
    Status(u16),
    /// These octets, and the end.
    Raw(String),
    /// The end.
    Close,
    /// Nothing, for ever.
    Hang,
    /// 200, and an octet of a long answer now and then.
    Drip,
    /// 200, and octets without end.
    Endless,
}

/// To the process that is the server.
#[derive(Serialize, Deserialize)]
enum Command {
    Answer(Answer),
    Tell,
}

/// What it has received: how many requests, and the last of them.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Seen {
    requests: u64,
    last: String,
}

impl Message for Command {
    const MAX_OCTETS: usize = 128 * 1024;
}

impl Message for Seen {
    const MAX_OCTETS: usize = 128 * 1024;
}

pub struct Server {
    pid: Pid,
    channel: Channel,
    port: u16,
    tls: bool,
}

type Tls = Option<Arc<ServerConfig>>;

impl Server {
    /// Without TLS.
    pub fn start(answer: Answer) -> Self {
        Self::start_with(answer, None)
    }

    /// With TLS, as `localhost`; and the authority that vouches for that.
    pub fn start_tls(answer: Answer) -> (Self, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let configuration = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        let server = Self::start_with(answer, Some(Arc::new(configuration)));
        (server, certificate.pem())
    }

    fn start_with(answer: Answer, tls: Tls) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (channel, theirs) = Channel::pair().unwrap();
        let has_tls = tls.is_some();
        match process::fork().unwrap() {
            Fork::Child => {
                let kept = [theirs.as_fd(), listener.as_fd()];
                process::close_all_except(&kept).unwrap();
                run(&theirs, listener, answer, &tls);
                process::exit(0)
            }
            Fork::Parent(pid) => Self {
                pid,
                channel,
                port,
                tls: has_tls,
            },
        }
    }

    pub fn url(&self) -> String {
        self.place().url
    }

    fn place(&self) -> Place {
        let (scheme, host) = if self.tls {
            ("https", "localhost")
        } else {
            ("http", "127.0.0.1")
        };
        Place {
            tls: self.tls,
            host: host.to_owned(),
            port: self.port,
            url: format!("{scheme}://{host}:{}/endpoint", self.port),
        }
    }

    pub fn keys(&self) -> Method {
        Method::KeyServer(self.place())
    }

    pub fn introspection(&self) -> Method {
        Method::Introspection {
            server: self.place(),
            client_id: "popa3d".into(),
        }
    }

    /// From now on.
    pub fn answers(&self, answer: Answer) {
        self.channel.send(&Command::Answer(answer), &[]).unwrap();
        drop(self.seen());
    }

    fn seen(&self) -> Seen {
        self.channel.send(&Command::Tell, &[]).unwrap();
        match self.channel.receive::<Seen>().unwrap() {
            Received::Message(seen, _) => seen,
            Received::Closed => panic!("the server has ended"),
        }
    }

    pub fn requests(&self) -> u64 {
        self.seen().requests
    }

    pub fn last(&self) -> String {
        self.seen().last
    }

    pub fn await_requests(&self, number: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.requests() < number {
            assert!(Instant::now() < deadline, "no request");
            thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = process::kill(self.pid, process::Signal::KILL);
        let _ = process::wait(self.pid);
    }
}

#[derive(Clone)]
struct State(Arc<Mutex<(Answer, Seen)>>);

fn run(channel: &Channel, listener: TcpListener, answer: Answer, tls: &Tls) {
    let state = State(Arc::new(Mutex::new((answer, Seen::default()))));
    let (shared, tls) = (state.clone(), tls.clone());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (state, tls) = (shared.clone(), tls.clone());
            thread::spawn(move || serve(stream.unwrap(), &state, tls));
        }
    });
    while let Ok(Received::Message(command, _)) = channel.receive::<Command>() {
        let mut state = state.0.lock().unwrap();
        match command {
            Command::Answer(answer) => state.0 = answer,
            Command::Tell => channel.send(&state.1, &[]).unwrap(),
        }
    }
}

fn serve(stream: TcpStream, state: &State, tls: Tls) {
    // The client's end of a connection is the end of it, in whatever way.
    drop(match tls {
        None => converse(stream, state),
        Some(configuration) => {
            let connection = ServerConnection::new(configuration).unwrap();
            converse(StreamOwned::new(connection, stream), state)
        }
    });
}

fn converse(mut stream: impl Read + Write, state: &State) -> io::Result<()> {
    loop {
        let request = read_request(&mut stream)?;
        let answer = {
            let mut state = state.0.lock().unwrap();
            state.1.requests += 1;
            state.1.last = request;
            state.0.clone()
        };
        let head = |octets: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {octets}\r\n\r\n");
        match answer {
            Answer::Json(json) => {
                stream.write_all((head(json.len()) + &json).as_bytes())?;
            }
            Answer::Long(octets) => {
                stream.write_all((head(octets) + &"{}".repeat(octets / 2)).as_bytes())?;
            }
            Answer::Status(status) => {
                let head = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(head.as_bytes())?;
            }
            Answer::Raw(octets) => return stream.write_all(octets.as_bytes()),
            Answer::Close => return Ok(()),
            Answer::Hang => loop {
                thread::park();
            },
            Answer::Drip => {
                stream.write_all(head(1000).as_bytes())?;
                loop {
                    stream.write_all(b" ")?;
                    thread::park_timeout(Duration::from_millis(100));
                }
            }
            Answer::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                loop {
                    stream.write_all(&[b' '; 4096])?;
                }
            }
        }
        stream.flush()?;
    }
}

/// A head, and a body of the length that it says.
fn read_request(stream: &mut impl Read) -> io::Result<String> {
    let mut request = Vec::new();
    let mut octet = [0];
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut octet)?;
        request.push(octet[0]);
    }
    let head = String::from_utf8(request).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        (name.eq_ignore_ascii_case("content-length")).then(|| value.parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(head + &String::from_utf8(body).unwrap())
}
