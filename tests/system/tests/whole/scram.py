"""SCRAM-SHA-256 (RFC 5802, RFC 7677) from hashlib, and the channel bindings from ssl and openssl: nothing of popa3d's own."""

import base64, hashlib, hmac, os, socket, ssl, subprocess, sys

binding, port, user, password, authority = sys.argv[1:]


def connect():
    """A file to speak through, and the binding data, if any."""
    if binding == "tls-exporter":
        command = ["/usr/bin/openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-nocommands", "-CAfile", authority]
        command += ["-keymatexport", "EXPORTER-Channel-Binding", "-keymatexportlen", "32", "-tls1_3"]
        openssl = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        material, is_greeted = None, False
        # The greeting may come before the report or behind it.
        while not (material and is_greeted):
            line = openssl.stdout.readline()
            assert line, "openssl has ended"
            if line.startswith(b"    Keying material: ") or line.startswith(b"Keying material: "):
                material = bytes.fromhex(line.split()[-1].decode())
            is_greeted = is_greeted or line.startswith(b"+OK")
        return openssl.stdin, openssl.stdout, material
    connection = socket.create_connection(("127.0.0.1", int(port)), timeout=60)
    data = None
    if binding != "none":
        context = ssl.create_default_context(cafile=authority)
        connection = context.wrap_socket(connection, server_hostname="mail.example.org")
        # The test's certificate is signed with SHA-256.
        data = hashlib.sha256(connection.getpeercert(binary_form=True)).digest()
    file = connection.makefile("rwb")
    assert file.readline().startswith(b"+OK")
    return file, file, data


sender, receiver, data = connect()


def ask(line):
    sender.write(line + b"\r\n")
    sender.flush()
    return receiver.readline().rstrip(b"\r\n")


def challenge(message, command=b""):
    reply = ask(command + base64.b64encode(message))
    if not reply.startswith(b"+ "):
        sys.exit(reply.decode())
    return base64.b64decode(reply[2:])


header = b"n,," if data is None else f"p={binding},,".encode()
mechanism = b"SCRAM-SHA-256" if data is None else b"SCRAM-SHA-256-PLUS"
nonce = base64.b64encode(os.urandom(18))
bare = b"n=" + user.encode() + b",r=" + nonce
first = challenge(header + bare, b"AUTH " + mechanism + b" ")
fields = dict(field.split(b"=", 1) for field in first.split(b","))
assert fields[b"r"].startswith(nonce) and len(fields[b"r"]) > len(nonce)
salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(fields[b"s"]), int(fields[b"i"]))
mac = lambda key, text: hmac.new(key, text, hashlib.sha256).digest()
client_key = mac(salted, b"Client Key")
without_proof = b"c=" + base64.b64encode(header + (data or b"")) + b",r=" + fields[b"r"]
message = bare + b"," + first + b"," + without_proof
signature = mac(hashlib.sha256(client_key).digest(), message)
proof = bytes(a ^ b for a, b in zip(client_key, signature))
final = challenge(without_proof + b",p=" + base64.b64encode(proof))
assert final == b"v=" + base64.b64encode(mac(mac(salted, b"Server Key"), message)), final
reply = ask(b"")
assert reply.startswith(b"+OK"), reply
print(ask(b"STAT").decode())
ask(b"QUIT")
