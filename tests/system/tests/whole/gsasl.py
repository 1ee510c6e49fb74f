"""SCRAM-SHA-256-PLUS by GNU SASL's library, bound to TLS 1.3 by what openssl's client exports (RFC 9266)."""

import base64, ctypes, subprocess, sys

port, user, password, authority = sys.argv[1:]

# gsasl.h
AUTHID, PASSWORD, CB_TLS_EXPORTER = 1, 3, 25
OK, NEEDS_MORE = 0, 1

command = ["/usr/bin/openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-nocommands", "-CAfile", authority]
command += ["-keymatexport", "EXPORTER-Channel-Binding", "-keymatexportlen", "32", "-tls1_3"]
openssl = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
material, is_greeted = None, False
# The greeting may come before the report or behind it.
while not (material and is_greeted):
    line = openssl.stdout.readline()
    assert line, "openssl has ended"
    if line.strip().startswith(b"Keying material: "):
        material = bytes.fromhex(line.split()[-1].decode())
    is_greeted = is_greeted or line.startswith(b"+OK")


def ask(line):
    openssl.stdin.write(line + b"\r\n")
    openssl.stdin.flush()
    return openssl.stdout.readline().rstrip(b"\r\n")


gsasl = ctypes.CDLL("libgsasl.so.18")
gsasl.gsasl_property_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p]
gsasl.gsasl_step64.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p)]
context, session = ctypes.c_void_p(), ctypes.c_void_p()
assert gsasl.gsasl_init(ctypes.byref(context)) == OK
assert gsasl.gsasl_client_start(context, b"SCRAM-SHA-256-PLUS", ctypes.byref(session)) == OK
for name, value in [
    (AUTHID, user.encode()),
    (PASSWORD, password.encode()),
    (CB_TLS_EXPORTER, base64.b64encode(material)),
]:
    gsasl.gsasl_property_set(session, name, value)


def step(challenge):
    output = ctypes.c_char_p()
    result = gsasl.gsasl_step64(session, challenge, ctypes.byref(output))
    assert result in (OK, NEEDS_MORE), result
    return result, output.value or b""


_, message = step(b"")
reply = ask(b"AUTH SCRAM-SHA-256-PLUS " + message)
while reply.startswith(b"+ "):
    result, message = step(reply[2:])
    reply = ask(message)
if not reply.startswith(b"+OK"):
    sys.exit(reply.decode())
# It has verified that the server knows the password, too.
assert result == OK, result
print(ask(b"STAT").decode())
ask(b"QUIT")
