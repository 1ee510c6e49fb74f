"""One program of those that work on a mailbox beside the server, and a history of what it did.

    other_programs.py KIND MAILBOX HISTORY STOP SEED

until the file STOP is there. KIND says who it is and how it locks, which is what the tests are about:

    postfix     local(8): dotlock, then fcntl, a second between two tries each; appends, syncs
    fcntl       as postfix with virtual(8): fcntl only
    procmail    procmail itself, one process a message
    dotlockfile a script that uses liblockfile's command, and nothing else, and appends
    reader      a mail reader: fcntl and dotlock, neither waited for while the other is held; writes the mailbox anew in
                place, each message with a Status, and now and then without one of them
"""
import errno, fcntl, os, random, re, subprocess, sys, time

kind, mailbox, history, stop, seed = sys.argv[1:]
dotlock = mailbox + ".lock"
random = random.Random(seed)
history = open(history, "w", buffering=1)
number = 0
# A sender's: no line looks like the beginning of a message.
TEXT = "0123456789 abcdefghijklmnopqrstuvwxyz\n"


def message():
    global number
    number += 1
    token = f"{kind}-{number}"
    body = TEXT * random.choice([0, 3, 40, 400])
    return token, (f"Date: {number}\nMessage-ID: <{token}@example.org>\nSubject: {token}\n\n"
                   f"begin {token}\n{body}end {token}\n").encode()


def make_dotlock():
    try:
        os.close(os.open(dotlock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o444))
        return True
    except FileExistsError:
        return False


def lock_file(file):
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise


def again(attempt, pause):
    while not attempt():
        time.sleep(pause)


def append(file, octets):
    octets = b"From sender@example.org Mon Jan  1 00:00:00 2024\n" + octets + b"\n"
    while octets:
        octets = octets[os.write(file, octets):]
    os.fsync(file)


def open_mailbox(flags):
    return os.open(mailbox, flags | os.O_NOFOLLOW)


def deliver_as_postfix(octets, with_dotlock=True):
    file = open_mailbox(os.O_WRONLY | os.O_APPEND)
    if with_dotlock:
        again(make_dotlock, random.choice([0.01, 1]))
    again(lambda: lock_file(file), random.choice([0.01, 1]))
    replaced = os.fstat(file).st_nlink != 1
    if not replaced:
        append(file, octets)
    if with_dotlock:
        os.unlink(dotlock)
    os.close(file)
    return not replaced


def deliver_by_dotlockfile(octets):
    # Its own pauses are five seconds and longer.
    again(lambda: subprocess.run(["/usr/bin/dotlockfile", "-l", "-r", "0", dotlock]).returncode == 0, 0.02)
    file = open_mailbox(os.O_WRONLY | os.O_APPEND)
    append(file, octets)
    os.close(file)
    subprocess.run(["/usr/bin/dotlockfile", "-u", dotlock], check=True)
    return True


def deliver_by_procmail(octets):
    rules = ["LOCKSLEEP=1", f"DEFAULT={mailbox}", f"ORGMAIL={mailbox}"]
    return subprocess.run(["/usr/bin/procmail", "-f", "sender", *rules, "/dev/null"], input=octets).returncode == 0


def lock_both(file):
    if not lock_file(file):
        return False
    if make_dotlock():
        return True
    fcntl.lockf(file, fcntl.LOCK_UN)
    return False


def read_mail():
    file = open_mailbox(os.O_RDWR)
    again(lambda: lock_both(file), 0.02 + random.random() / 20)
    octets = b""
    while part := os.read(file, 1 << 20):
        octets += part
    messages = [part for part in re.split(rb"(?:\A|(?<=\n\n))(?=From )", octets) if part]
    gone = random.randrange(len(messages)) if messages and random.random() < 0.3 else None
    for index, text in enumerate(messages):
        if index == gone:
            history.write("removed " + re.search(rb"^begin (\S+)$", text, re.M)[1].decode() + "\n")
        elif b"\nStatus: RO\n" not in text:
            messages[index] = text.replace(b"\n\n", b"\nStatus: RO\n\n", 1)
    octets = b"".join(text for index, text in enumerate(messages) if index != gone)
    os.pwrite(file, octets, 0)
    os.ftruncate(file, len(octets))
    os.fsync(file)
    os.unlink(dotlock)
    os.close(file)


deliver = {"postfix": deliver_as_postfix, "fcntl": lambda octets: deliver_as_postfix(octets, False),
           "procmail": deliver_by_procmail, "dotlockfile": deliver_by_dotlockfile}
while not os.path.exists(stop):
    if kind == "reader":
        read_mail()
        history.write("read\n")
        time.sleep(random.random() / 2)
    else:
        token, octets = message()
        history.write(f"sent {token}\n")
        if deliver[kind](octets):
            history.write(f"delivered {token}\n")
        time.sleep(random.random() / 10)
