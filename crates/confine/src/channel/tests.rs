//! What may and what may not come out of a channel. Leaks and credentials: `tests/processes.rs`.

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Spoken {
    Words(String),
    Handed { count: u8 },
}

impl Message for Spoken {
    const MAX_OCTETS: usize = 64;

    fn descriptors(&self) -> usize {
        match self {
            Self::Words(_) => 0,
            Self::Handed { count } => usize::from(*count),
        }
    }
}

/// Nothing but a length.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Large(Vec<u8>);

impl Message for Large {
    const MAX_OCTETS: usize = MAX_DATAGRAM;
}

#[derive(Debug, Serialize, Deserialize)]
struct Nothing;

impl Message for Nothing {
    const MAX_OCTETS: usize = 1;
}

fn words(count: usize) -> Spoken {
    Spoken::Words("w".repeat(count))
}

fn receive<M: Message>(channel: &Channel) -> (M, Descriptors) {
    match channel.receive().unwrap() {
        Received::Message(message, descriptors) => (message, descriptors),
        Received::Closed => panic!("closed"),
    }
}

/// What a datagram of these octets is taken for.
fn received_as(octets: &[u8]) -> ChannelError {
    let (ours, theirs) = Channel::pair().unwrap();
    packet::send(theirs.as_fd(), octets, &[], SendFlags::empty()).unwrap();
    ours.receive::<Spoken>().unwrap_err()
}

#[test]
fn messages_arrive_whole_and_in_order() {
    let (ours, theirs) = Channel::pair().unwrap();
    for count in [0, 1, 62] {
        theirs.send(&words(count), &[]).unwrap();
    }
    for count in [0, 1, 62] {
        assert_eq!(receive::<Spoken>(&ours).0, words(count));
    }
    drop(theirs);
    assert!(matches!(ours.receive::<Spoken>(), Ok(Received::Closed)));
}

#[test]
fn the_last_words_of_an_end_that_leaves_ours_unread_arrive() {
    for trying in [false, true] {
        let (ours, theirs) = Channel::pair().unwrap();
        ours.send(&words(9), &[]).unwrap();
        theirs.send(&words(1), &[]).unwrap();
        theirs.send(&words(2), &[]).unwrap();
        drop(theirs);
        let next = || match trying {
            false => ours.receive::<Spoken>().unwrap(),
            true => ours.try_receive::<Spoken>().unwrap().unwrap(),
        };
        for count in [1, 2] {
            assert!(matches!(next(), Received::Message(said, _) if said == words(count)));
        }
        assert!(matches!(next(), Received::Closed));
        assert!(matches!(next(), Received::Closed));
    }
}

#[test]
fn descriptors_arrive_in_order_and_mean_the_same() {
    let (ours, theirs) = Channel::pair().unwrap();
    let pairs = [Channel::pair().unwrap(), Channel::pair().unwrap()];
    let sent = [pairs[0].0.as_fd(), pairs[1].0.as_fd()];
    theirs.send(&Spoken::Handed { count: 2 }, &sent).unwrap();
    let (_, descriptors) = receive::<Spoken>(&ours);
    assert_eq!(descriptors.len(), 2);
    for ((descriptor, (_, other)), count) in descriptors.zip(&pairs).zip(1..) {
        Channel::from_fd(descriptor)
            .unwrap()
            .send(&words(count), &[])
            .unwrap();
        assert_eq!(receive::<Spoken>(other).0, words(count));
    }
}

#[test]
fn a_message_sends_as_many_descriptors_as_it_says() {
    let (ours, theirs) = Channel::pair().unwrap();
    let descriptors = [ours.as_fd(); MAX_DESCRIPTORS + 1];
    for (count, given) in [(0, 1), (1, 0), (2, 1), (5, 5)] {
        let sent = theirs.send(&Spoken::Handed { count }, &descriptors[..given]);
        assert!(
            matches!(sent, Err(ChannelError::WrongDescriptors { .. })),
            "{sent:?}"
        );
    }
    assert!(ours.try_receive::<Spoken>().unwrap().is_none());
}

#[test]
fn what_is_too_large_or_empty_is_not_sent() {
    let (ours, theirs) = Channel::pair().unwrap();
    assert!(matches!(
        theirs.send(&words(63), &[]),
        Err(ChannelError::TooLarge)
    ));
    assert!(matches!(
        theirs.send(&Nothing, &[]),
        Err(ChannelError::Unencodable)
    ));
    assert!(ours.try_receive::<Spoken>().unwrap().is_none());
}

#[test]
fn the_largest_message_fits_into_the_socket() {
    let (ours, theirs) = Channel::pair().unwrap();
    let large = Large(vec![7; MAX_DATAGRAM - 3]);
    theirs.send(&large, &[]).unwrap();
    assert_eq!(receive::<Large>(&ours).0, large);
}

#[test]
fn each_malformed_datagram_is_an_error_of_its_own() {
    assert!(matches!(received_as(&[0; 65]), ChannelError::Truncated));
    assert!(matches!(
        received_as(&[0, 5, b'w']),
        ChannelError::Undecodable
    ));
    assert!(matches!(received_as(&[2]), ChannelError::Undecodable));
    assert!(matches!(
        received_as(&[0, 1, 0xFF]),
        ChannelError::Undecodable
    ));
    assert!(matches!(
        received_as(&[0, 1, b'w', 0]),
        ChannelError::LeftOver
    ));
    assert!(matches!(
        received_as(&[1, 1]),
        ChannelError::WrongDescriptors {
            expected: 1,
            found: 0
        }
    ));
    // A length that would be 16 exabytes.
    let length = [
        0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01,
    ];
    assert!(matches!(received_as(&length), ChannelError::Undecodable));
}

#[test]
fn trying_never_waits() {
    let (ours, theirs) = Channel::pair().unwrap();
    assert!(ours.try_receive::<Spoken>().unwrap().is_none());
    let full = (0..1_000_000).find_map(|_| theirs.try_send(&words(60), &[]).err());
    assert!(matches!(full, Some(ChannelError::WouldBlock)), "{full:?}");
    assert_eq!(receive::<Spoken>(&ours).0, words(60));
    theirs.try_send(&words(60), &[]).unwrap();
}

#[test]
fn only_seqpacket_unix_sockets_are_channels() {
    let is_refused =
        |socket: OwnedFd| matches!(Channel::from_fd(socket), Err(ChannelError::NotAChannel));
    assert!(is_refused(
        std::os::unix::net::UnixDatagram::unbound().unwrap().into()
    ));
    assert!(is_refused(
        std::os::unix::net::UnixStream::pair().unwrap().0.into()
    ));
    assert!(is_refused(
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().into()
    ));
    assert!(is_refused(std::fs::File::open("/dev/null").unwrap().into()));
    assert!(Channel::from_fd(Channel::pair().unwrap().0.into_fd()).is_ok());
}

#[test]
fn no_octet_stays_in_the_buffer() {
    let (ours, theirs) = Channel::pair().unwrap();
    theirs.send(&words(60), &[]).unwrap();
    receive::<Spoken>(&ours);
    let _ = theirs.send(&words(63), &[]);
    packet::send(theirs.as_fd(), &[0xFF; 70], &[], SendFlags::empty()).unwrap();
    let _ = ours.receive::<Spoken>();
    let idle = IDLE.take();
    assert_eq!(idle.len(), Spoken::MAX_OCTETS);
    assert!(idle.iter().all(|&octet| octet == 0), "{idle:?}");
}
