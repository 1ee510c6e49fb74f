//! Messages between processes: what a process that has been taken over may send its neighbours.

use std::fmt::Debug;
use std::time::Duration;

use confine::channel::Message;
use messages::auth::{Attempt, Denial, NewSession, ToAuth, Verdict};
use messages::keyholder::{FromKeyholder, NewSigner, Signature, SignatureRequest, ToKeyholder};
use messages::listener::ToListener;
use messages::log::Record;
use messages::role::Report;
use messages::session::{Connection, FromListener, SessionId, ToSessionSpawner};
use messages::spawner::{StartMaildrop, ToSpawner};
use messages::token::{Answer, Question, ToToken};
use messages::{SaslMechanism, Secret};

use super::{Target, literal};

/// What decodes is no longer when it is encoded again, and decodes to the same.
pub const MESSAGES: Target = Target {
    name: "messages",
    run: messages,
    pieces,
    max_octets: 2048,
};

/// The first octet chooses the type.
const TYPES: [fn(&[u8]); 19] = [
    decode::<Attempt>,
    decode::<Verdict>,
    decode::<NewSession>,
    decode::<NewSigner>,
    decode::<SignatureRequest>,
    decode::<Signature>,
    decode::<FromListener>,
    decode::<StartMaildrop>,
    decode::<Record>,
    decode::<Report>,
    decode::<FromKeyholder>,
    decode::<ToAuth>,
    decode::<ToKeyholder>,
    decode::<ToListener>,
    decode::<ToSessionSpawner>,
    decode::<ToSpawner>,
    decode::<ToToken>,
    decode::<Question>,
    decode::<Answer>,
];

fn messages(data: &[u8]) {
    if let Some((&choice, data)) = data.split_first()
        && let Some(decode) = TYPES.get(usize::from(choice) % TYPES.len())
    {
        decode(data);
    }
}

fn decode<M: Message + Debug>(data: &[u8]) {
    // As `confine::channel` does it: no octet may be left over.
    let Ok((message, [])) = postcard::take_from_bytes::<M>(data) else {
        return;
    };
    let again = encoded(&message);
    // Numbers may come in more octets than they need, never in fewer.
    assert!(again.len() <= data.len(), "{message:?}");
    let decoded: M = postcard::from_bytes(&again).expect("what was encoded can be decoded");
    assert_eq!(decoded.descriptors(), message.descriptors());
    assert_eq!(encoded(&decoded), again);
}

fn pieces() -> Vec<Vec<u8>> {
    let (id, peer) = (SessionId(7), "192.0.2.1:110".parse().ok());
    let secret = || Secret::copied_from(b"tan staaf");
    let mut pieces = literal(&[
        b"",
        b"\0",
        b"\x01",
        b"\x02",
        b"\x7f",
        b"\x80\x01",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ]);
    pieces.extend([
        encoded(&Attempt::Password {
            user: b"mrose".to_vec(),
            password: secret(),
        }),
        encoded(&Attempt::SaslStart {
            mechanism: SaslMechanism::Plain,
            initial_response: Some(secret()),
            tls: None,
        }),
        encoded(&Attempt::SaslCancel),
        encoded(&Verdict::Challenge(b"r=x".to_vec())),
        encoded(&Verdict::Denied(Denial::LoginDelay)),
        encoded(&NewSigner { id, peer }),
        encoded(&NewSession {
            id,
            peer,
            local: "[2001:db8::1]:995".parse().ok(),
            apop_timestamp: Some("<1@h>".to_owned()),
        }),
        encoded(&FromListener::End(id)),
        encoded(&FromListener::Serve(Connection {
            id,
            peer,
            local: None,
            implicit_tls: true,
            apop_timestamp: None,
            greeted: false,
            time_left: Duration::from_secs(60),
            separate_output: false,
            yields: true,
        })),
        encoded(&Record::warning("connection refused").with("reason", "x")),
        encoded(&Report::Ready {
            missing: vec!["landlock".to_owned()],
        }),
    ]);
    pieces
}

fn encoded<M: Message>(message: &M) -> Vec<u8> {
    postcard::to_stdvec(message).expect("a message can be encoded")
}
