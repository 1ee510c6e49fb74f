//! The people of the private machine. Hashes are `$6$` with the fewest rounds: the tests are about what the
//! server does with the answer, and a slow hash would make every one of them slow.

/// An account of the private machine.
#[derive(Clone, Copy, Debug)]
pub struct User {
    /// Login name.
    pub name: &'static str,
    /// User and group number.
    pub id: u32,
    /// What PASS sends.
    pub password: &'static str,
    /// crypt(3) of [`User::password`].
    pub hash: &'static str,
}

/// The mailbox owner of nearly every test.
pub const ALICE: User = User {
    name: "alice",
    id: 5001,
    password: "wonderland",
    hash: "$6$rounds=1000$alice$tE.xu4MjNPP4dup1TW9S0JGnmyfpdVc10k.3BUx78OjmoXAoEkrbNN82BiN8k5/JmU1qPLhc/KFR3V/dM0blJ.",
};

/// Somebody else.
pub const BOB: User = User {
    name: "bob",
    id: 5002,
    password: "builder",
    hash: "$6$rounds=1000$bob$yuNPYmnHdZjgXs7Y8dGN3bwGUsz1OU1YJVearFS5x5osExdPnv0znL4q3nQhdU/NJ7RkoZ1I29zQt5NOksMzr1",
};

/// A third.
pub const CAROL: User = User {
    name: "carol",
    id: 5003,
    password: "christmas",
    hash: "$6$rounds=1000$carol$4ExFYUY7hY59wEA7ReN.olRgcfKdRPLACksgJwoBlC9LoA6Ocw7ShfdSvnQe9NClwEjCVojDLY8ZZ4HQKxaBS0",
};

/// One whose password has spaces, at the end too (RFC 1939 section 7: PASS has one argument, spaces belong to it).
pub const DAVE: User = User {
    name: "dave",
    id: 5004,
    password: " two  words ",
    hash: "$6$rounds=1000$dave$rGQkXsDuOBepr.seVu0noGi5uPMhH94m9/ChJ1lS/GJRSRmhkFt2FW/4tODDl1a1SpCZJqrPQAxdAuUbPS.wx/",
};

/// Accounts that can log in everywhere.
pub const PEOPLE: [User; 4] = [ALICE, BOB, CAROL, DAVE];

/// Runs the server where it is not root.
pub const OPERATOR_ID: u32 = 5098;

/// Runs the mail clients.
pub const READER_ID: u32 = 5099;

/// The server's own users, with the groups they are in beside their own.
pub const SERVICE: [(&str, u32, &[&str]); 6] = [
    ("popa3d", 5101, &[]),
    ("popa3d-auth", 5102, &["shadow"]),
    ("popa3d-spawn", 5103, &[]),
    ("popa3d-key", 5104, &[]),
    ("popa3d-token", 5105, &[]),
    ("popa3d-lock", 5106, &[]),
];

/// crypt(3) of `root`, the password of both accounts with user number 0: right, and refused all the same.
pub const ROOT_HASH: &str = "$6$rounds=1000$root$uopXiNdo1lxHFVbJjl6cLYSSNFTgVg6Ep0V.ctcXr0BG0kY1PYQfVmBD4x5ZRYsRSb7hC.cxBsOglG/jwmUWd0";
