//! Processes, their descriptors and signals, locks and credentials: what can only be seen from more
//! than one process.

#![allow(missing_docs)]

#[macro_use]
mod single_threaded;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::time::Instant;

use confine::channel::{Channel, ChannelError, Message, Received};
use confine::process::{self, Fork, Pid, Signal};
use confine::signals::{self, SignalFd};
use confine::{handover, lock, socket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use single_threaded::{Test, in_child, is_root, start_child, status_line};

/// argv\[0\] by which this file knows that it has been started as a role.
const ROLE: &str = "confine-test-role";

fn main() -> ExitCode {
    if std::env::args().next().as_deref() == Some(ROLE) {
        return role();
    }
    single_threaded::run(TESTS)
}

const TESTS: &[Test] = tests![
    a_role_gets_four_descriptors_and_nothing_else,
    a_role_starts_from_any_descriptor_numbers,
    a_role_that_cannot_be_executed_exits_127,
    a_process_that_is_no_role_has_no_role_channel,
    fork_is_refused_while_there_are_threads,
    close_all_except_closes_in_gaps,
    close_these_closes_nothing_else,
    wait_any_finds_the_ended_child_only,
    a_pidfd_turns_readable_when_the_process_ends,
    signals_are_read_and_children_get_them_delivered,
    no_error_leaks_a_descriptor,
    received_descriptors_are_closed_on_exec,
    a_full_descriptor_table_is_an_error_of_its_own,
    the_kernel_tells_who_sent_a_message,
    writing_to_a_dead_process_is_an_error_and_no_signal,
    a_lock_belongs_to_the_open_file,
    a_lock_outlives_its_process_through_a_duplicate,
];

/// What a role finds when it starts.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    arguments: Vec<String>,
    environment: usize,
    descriptors: Vec<(i32, String)>,
    blocked: String,
    ignored: String,
}

impl Message for Found {
    const MAX_OCTETS: usize = 8192;
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Carrying(u8);

impl Message for Carrying {
    const MAX_OCTETS: usize = 16;

    fn descriptors(&self) -> usize {
        usize::from(self.0)
    }
}

fn role() -> ExitCode {
    let channel = process::role_channel().unwrap().unwrap();
    assert!(
        process::role_channel().unwrap().is_none(),
        "there is one owner"
    );
    let found = Found {
        arguments: std::env::args().collect(),
        environment: std::env::vars_os().count(),
        descriptors: open_descriptors(),
        blocked: status_line("SigBlk"),
        ignored: status_line("SigIgn"),
    };
    channel.send(&found, &[]).unwrap();
    ExitCode::from(7)
}

/// Numbers and what they are, without the one that is used to look.
fn open_descriptors() -> Vec<(i32, String)> {
    let entries: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    let target = |number: i32| {
        Some((
            number,
            std::fs::read_link(format!("/proc/self/fd/{number}")).ok()?,
        ))
    };
    let mut found: Vec<(i32, String)> = entries
        .into_iter()
        .filter_map(target)
        .map(|(number, target)| (number, target.to_str().unwrap().to_owned()))
        .collect();
    found.sort();
    found
}

/// Their numbers alone.
fn open_numbers() -> Vec<i32> {
    let numbers = open_descriptors().into_iter().map(|(number, _)| number);
    numbers.collect()
}

fn start_role_and_ask() -> (Found, std::process::ExitStatus) {
    let executable = process::own_executable().unwrap();
    let (ours, theirs) = Channel::pair().unwrap();
    let child = process::spawn_role(
        executable.as_fd(),
        c"confine-test-role",
        theirs.into_fd(),
        None,
    )
    .unwrap();
    let Received::Message(found, _) = ours.receive::<Found>().unwrap() else {
        panic!("the role said nothing");
    };
    (found, process::wait(child).unwrap())
}

fn assert_four_descriptors(found: &Found) {
    let numbers: Vec<i32> = found
        .descriptors
        .iter()
        .map(|(number, _)| *number)
        .collect();
    assert_eq!(numbers, [0, 1, 2, 3], "{found:?}");
    for (_, target) in &found.descriptors[..3] {
        assert_eq!(target, "/dev/null");
    }
    assert!(found.descriptors[3].1.starts_with("socket:"), "{found:?}");
}

fn a_role_gets_four_descriptors_and_nothing_else() {
    let _inheritable = rustix::io::dup(io::stderr()).unwrap();
    let _blocked = SignalFd::new(&[Signal::TERM, Signal::HUP, Signal::CHILD]).unwrap();
    signals::ignore_sigpipe().unwrap();
    assert!(std::env::vars_os().count() > 0);

    let (found, status) = start_role_and_ask();
    assert_eq!(status.code(), Some(7));
    assert_four_descriptors(&found);
    assert_eq!(found.arguments, [ROLE]);
    assert_eq!(found.environment, 0);
    assert_eq!(found.blocked, "0000000000000000");
    // SIGPIPE, which Rust's start-up code ignores.
    assert_eq!(found.ignored, "0000000000001000");
}

/// The very numbers that the child fills are in use, in another order, or free.
fn a_role_starts_from_any_descriptor_numbers() {
    for number in 0..3 {
        // SAFETY: nothing in this child uses its standard descriptors from here on.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
    // Takes 0 for the file and 1 and 2 for the channel.
    let (found, status) = start_role_and_ask();
    assert_eq!(status.code(), Some(7));
    assert_four_descriptors(&found);
}

fn a_role_that_cannot_be_executed_exits_127() {
    let (_ours, theirs) = Channel::pair().unwrap();
    let no_program = File::open("/dev/null").unwrap();
    let child = process::spawn_role(no_program.as_fd(), c"x", theirs.into_fd(), None).unwrap();
    assert_eq!(
        process::wait(child).unwrap().code(),
        Some(process::EXIT_NOT_EXECUTED)
    );
}

fn a_process_that_is_no_role_has_no_role_channel() {
    process::close_all_except(&[]).unwrap();
    let file = File::open("/dev/null").unwrap();
    assert_eq!(file.as_raw_fd(), 3);
    assert!(
        process::role_channel().unwrap().is_none(),
        "3 is a file of our own"
    );
}

fn fork_is_refused_while_there_are_threads() {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || stopped.recv());
    assert!(process::fork().is_err());
    drop(stop);
    let _ = thread.join().unwrap();
}

fn close_all_except_closes_in_gaps() {
    let files: Vec<File> = (0..20).map(|_| File::open("/dev/null").unwrap()).collect();
    let kept = [files[7].as_fd(), files[3].as_fd(), files[4].as_fd()];
    let mut expected: Vec<i32> = [0, 1, 2]
        .into_iter()
        .chain(kept.iter().map(AsRawFd::as_raw_fd))
        .collect();
    expected.sort_unstable();
    process::close_all_except(&kept).unwrap();
    let found = open_numbers();
    assert_eq!(found, expected);
    // Their owners own nothing any more.
    std::mem::forget(files);
}

fn close_these_closes_nothing_else() {
    let files: Vec<File> = (0..20).map(|_| File::open("/dev/null").unwrap()).collect();
    let closed = [9, 3, 4, 19, 2].map(|at: usize| files[at].as_fd());
    let mut expected = open_numbers();
    expected.retain(|number| closed.iter().all(|closed| closed.as_raw_fd() != *number));
    process::close_these(&closed).unwrap();
    let found = open_numbers();
    assert_eq!(found, expected);
    // Their owners own nothing any more.
    std::mem::forget(files);
}

fn wait_any_finds_the_ended_child_only() {
    assert!(process::wait_any().is_none(), "no children");
    let (ours, theirs) = Channel::pair().unwrap();
    let child = start_child(|| {
        let _ = theirs.receive::<Carrying>();
        process::exit(5);
    });
    assert!(process::wait_any().is_none(), "it still runs");
    ours.send(&Carrying(0), &[]).unwrap();
    assert_eq!(
        until(process::wait_any),
        (child, std::process::ExitStatus::from_raw(5 << 8))
    );
    assert!(process::wait_any().is_none(), "no children any more");
}

/// Repeats until there is an answer: what is waited for happens in another process.
fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(std::time::Instant::now() < deadline, "nothing came");
        std::thread::yield_now();
    }
}

fn is_readable(descriptor: BorrowedFd<'_>, timeout: Timespec) -> bool {
    let mut descriptors = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    poll(&mut descriptors, Some(&timeout)).unwrap() == 1
}

const NOW: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};
const DEADLINE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

fn a_pidfd_turns_readable_when_the_process_ends() {
    let (ours, theirs) = Channel::pair().unwrap();
    let child = start_child(|| {
        let _ = theirs.receive::<Carrying>();
    });
    let pidfd = process::open_pidfd(child).unwrap();
    assert!(!is_readable(pidfd.as_fd(), NOW));
    process::kill(child, Signal::KILL).unwrap();
    assert!(is_readable(pidfd.as_fd(), DEADLINE));
    assert_eq!(process::wait(child).unwrap().signal(), Some(9));
    assert!(process::kill(child, Signal::KILL).is_err(), "it is gone");
    drop(ours);
}

fn signals_are_read_and_children_get_them_delivered() {
    let signals = SignalFd::new(&[Signal::TERM, Signal::HUP]).unwrap();
    assert_eq!(signals.read(), None);
    process::kill(process::own_pid(), Signal::HUP).unwrap();
    process::kill(process::own_pid(), Signal::TERM).unwrap();
    assert!(is_readable(signals.as_fd(), NOW));
    let mut read = [signals.read().unwrap(), signals.read().unwrap()];
    read.sort_by_key(|signal| signal.as_raw());
    assert_eq!(read, [Signal::HUP, Signal::TERM]);
    assert_eq!(signals.read(), None);

    let status = in_child(|| {
        signals::unblock_all().unwrap();
        process::kill(process::own_pid(), Signal::TERM).unwrap();
    });
    assert_eq!(status.signal(), Some(15));
}

/// Everything a hostile sender can do, and the receiver's table before and after.
fn no_error_leaks_a_descriptor() {
    let (ours, theirs) = Channel::pair().unwrap();
    let file = File::open("/dev/null").unwrap();
    let before = open_descriptors();
    let send = |octets: &[u8], count: usize| {
        let descriptors = vec![file.as_fd(); count];
        send_raw(theirs.as_fd(), octets, &descriptors);
    };
    let expect = |octets: &[u8], count: usize, wanted: fn(&ChannelError) -> bool| {
        send(octets, count);
        let error = ours.receive::<Carrying>().unwrap_err();
        assert!(wanted(&error), "{octets:?} with {count}: {error:?}");
    };
    expect(&[1], 0, |e| {
        matches!(
            e,
            ChannelError::WrongDescriptors {
                expected: 1,
                found: 0
            }
        )
    });
    expect(&[1], 2, |e| {
        matches!(
            e,
            ChannelError::WrongDescriptors {
                expected: 1,
                found: 2
            }
        )
    });
    expect(&[0], 4, |e| {
        matches!(
            e,
            ChannelError::WrongDescriptors {
                expected: 0,
                found: 4
            }
        )
    });
    expect(&[5], 5, |e| {
        matches!(
            e,
            ChannelError::WrongDescriptors { .. } | ChannelError::DescriptorsTruncated
        )
    });
    expect(&[4], 64, |e| {
        matches!(e, ChannelError::DescriptorsTruncated)
    });
    expect(&[2, 0], 2, |e| matches!(e, ChannelError::LeftOver));
    expect(&[0; 17], 3, |e| matches!(e, ChannelError::Truncated));
    // A datagram without octets cannot be told from the end of file, and is taken for it.
    send(&[], 3);
    assert!(matches!(ours.receive::<Carrying>(), Ok(Received::Closed)));
    // And a message that is received, with all that came with it dropped.
    theirs.send(&Carrying(4), &[file.as_fd(); 4]).unwrap();
    drop(ours.receive::<Carrying>().unwrap());
    // Nor does the handover leak: descriptors at the second part of a header, too many, a length
    // too great.
    for (octets, count) in [(&[0, 0, 0, 2, 9][..], 64), (&[0, 1, 0, 1], 4), (&[0, 0], 4)] {
        let (reader, writer) = socket::stream_pair().unwrap();
        send_raw(writer.as_fd(), octets, &vec![file.as_fd(); count]);
        drop(writer);
        assert!(handover::receive(reader.as_fd(), Instant::now()).is_err());
    }
    assert_eq!(open_descriptors(), before);
}

fn send_raw(socket: BorrowedFd<'_>, octets: &[u8], descriptors: &[BorrowedFd<'_>]) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    sendmsg(
        socket,
        &[io::IoSlice::new(octets)],
        &mut control,
        SendFlags::empty(),
    )
    .unwrap();
}

fn received_descriptors_are_closed_on_exec() {
    let (ours, theirs) = Channel::pair().unwrap();
    theirs.send(&Carrying(1), &[io::stderr().as_fd()]).unwrap();
    let Received::Message(_, descriptors) = ours.receive::<Carrying>().unwrap() else {
        panic!("closed");
    };
    let [descriptor] = descriptors.into_array().unwrap();
    for descriptor in [descriptor.as_fd(), ours.as_fd(), theirs.as_fd()] {
        let flags = rustix::io::fcntl_getfd(descriptor).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
}

fn a_full_descriptor_table_is_an_error_of_its_own() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let (ours, theirs) = Channel::pair().unwrap();
    theirs.send(&Carrying(1), &[ours.as_fd()]).unwrap();
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )
    .unwrap();
    assert!(matches!(
        ours.receive::<Carrying>(),
        Err(ChannelError::DescriptorsTruncated)
    ));
}

fn the_kernel_tells_who_sent_a_message() {
    let (sink, source) = Channel::pair_with_credentials().unwrap();
    let root = is_root("the_kernel_tells_who_sent_a_message (from another user)");
    let child = start_child(|| {
        if root {
            let nobody = confine::identity::Identity {
                uid: 65534.try_into().unwrap(),
                gid: 65533.try_into().unwrap(),
                groups: Vec::new(),
            };
            confine::identity::drop_to(&nobody).unwrap();
        }
        source.send(&Carrying(0), &[]).unwrap();
    });
    let Received::Message((message, sender), _) =
        sink.receive_with_credentials::<Carrying>().unwrap()
    else {
        panic!("closed");
    };
    assert_eq!(message, Carrying(0));
    assert_eq!(sender.pid, child);
    let own = (
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    assert_eq!(
        (sender.uid, sender.gid),
        if root { (65534, 65533) } else { own }
    );
    assert!(process::wait(child).unwrap().success());
    // A channel that does not ask does not learn it.
    let (ours, theirs) = Channel::pair().unwrap();
    theirs.send(&Carrying(0), &[]).unwrap();
    assert!(matches!(
        ours.receive_with_credentials::<Carrying>(),
        Err(ChannelError::NoCredentials)
    ));
}

fn writing_to_a_dead_process_is_an_error_and_no_signal() {
    signals::default_all();
    let (ours, theirs) = Channel::pair().unwrap();
    let (stream, other) = socket::stream_pair().unwrap();
    drop((theirs, other));
    assert!(matches!(
        ours.send(&Carrying(0), &[]),
        Err(ChannelError::Closed)
    ));
    assert!(matches!(ours.receive::<Carrying>(), Ok(Received::Closed)));
    assert!(matches!(
        handover::send(stream.as_fd(), b"x", &[]),
        Err(ChannelError::Closed)
    ));
}

fn a_lock_belongs_to_the_open_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mbox");
    let open = || {
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .unwrap()
    };
    let (first, second) = (open(), open());
    assert!(lock::try_lock_exclusive(first.as_fd()).unwrap());
    assert!(
        lock::try_lock_exclusive(first.as_fd()).unwrap(),
        "it has it already"
    );
    assert!(
        !lock::try_lock_exclusive(second.as_fd()).unwrap(),
        "even in the same process"
    );
    assert!(!lock::try_lock_shared(second.as_fd()).unwrap());
    drop(open());
    assert!(
        !lock::try_lock_shared(second.as_fd()).unwrap(),
        "closing another descriptor loses nothing"
    );
    lock::unlock(first.as_fd()).unwrap();
    assert!(lock::try_lock_shared(first.as_fd()).unwrap());
    assert!(
        lock::try_lock_shared(second.as_fd()).unwrap(),
        "readers share"
    );
    assert!(!lock::try_lock_exclusive(second.as_fd()).unwrap());
    // The classical locks of other mail programs conflict with it.
    let status = in_child(|| {
        use rustix::fs::{FlockOperation, fcntl_lock};
        assert!(fcntl_lock(open(), FlockOperation::NonBlockingLockExclusive).is_err());
    });
    assert!(status.success());
}

fn a_lock_outlives_its_process_through_a_duplicate() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mbox");
    let kept = File::create(&path).unwrap();
    let (ours, theirs) = Channel::pair().unwrap();
    let holder = match process::fork().unwrap() {
        Fork::Parent(child) => child,
        Fork::Child => {
            let locked = lock::try_lock_exclusive(kept.as_fd()).unwrap_or(false);
            let _ = theirs.send(&Carrying(0), &[]);
            let _ = theirs.receive::<Carrying>();
            process::exit(i32::from(!locked))
        }
    };
    assert!(matches!(
        ours.receive::<Carrying>(),
        Ok(Received::Message(..))
    ));
    process::kill(holder, Signal::KILL).unwrap();
    assert_eq!(process::wait(holder).unwrap().signal(), Some(9));
    let other = File::create(&path).unwrap();
    assert!(
        !lock::try_lock_exclusive(other.as_fd()).unwrap(),
        "our duplicate keeps it"
    );
    drop(kept);
    assert!(lock::try_lock_exclusive(other.as_fd()).unwrap());
    let _: Pid = holder;
}
