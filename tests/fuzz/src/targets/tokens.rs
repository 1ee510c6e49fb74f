//! Access tokens, keys and answers about them, from whoever sends any.

use role_token::fuzz;

use super::{Target, literal};

const MAX_OCTETS: usize = 4096;

/// No token is valid that the known key has not signed.
pub const TOKEN: Target = Target {
    name: "token",
    run: fuzz::token,
    pieces,
    max_octets: MAX_OCTETS,
};

/// No key of a set verifies the signature of nothing.
pub const KEYS: Target = Target {
    name: "token-keys",
    run: fuzz::key_set,
    pieces,
    max_octets: MAX_OCTETS,
};

/// Whatever an issuer says, a user has a name.
pub const INTROSPECTION: Target = Target {
    name: "token-introspection",
    run: fuzz::introspection,
    pieces,
    max_octets: MAX_OCTETS,
};

fn pieces() -> Vec<Vec<u8>> {
    literal(&[
        b"eyJhbGciOiJFZERTQSJ9",
        b"eyJhbGciOiJub25lIn0",
        b"RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
        b"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        b"e30",
        b".",
        b"=",
        b"{\"keys\":[",
        b"]}",
        b"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}",
        b"{\"kty\":\"RSA\",\"n\":\"",
        b"\",\"e\":\"AQAB\"}",
        b"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4\",\"y\":\"",
        b"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM\"}",
        b",\"use\":\"sig\"",
        b"{\"active\":true",
        b",\"username\":\"joe\"",
        b",\"iss\":\"i\"",
        b",\"aud\":[\"a\"]",
        b",\"scope\":\"s\"",
        b",\"exp\":1e400",
        b",\"exp\":-1",
        b",\"nbf\":0",
        b"}",
        b"[",
        b"\\u0000",
        b",",
    ])
}
