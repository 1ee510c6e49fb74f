//! The harness of the whole-system tests: it starts the real server on a private machine, speaks raw POP3 to it
//! or lets real clients do so, and reads what the kernel says about its processes. Runs in no product; it trusts
//! nothing the server sends.
//!
//! Where is …?
//! - a private machine (namespaces, users, `/etc`, `/var`): [`machine`]
//! - a running server, as root or as an ordinary user: [`site`], [`server`]
//! - one session on a socket pair, as inetd starts it: [`inetd`]
//! - a strict POP3 client: [`pop`]
//! - certificates: [`certificates`]; access tokens: [`tokens`]
//! - mail that has broken other servers: [`corpus`]
//! - those other servers: [`rivals`]
//! - a look at system calls, and at what comes of their failure: [`strace`]
#![forbid(unsafe_code)]

pub mod certificates;
pub mod corpus;
pub mod inetd;
pub mod loopback;
pub mod machine;
pub mod mpop;
pub mod poll;
pub mod pop;
pub mod processes;
pub mod program;
pub mod random;
pub mod rivals;
pub mod run;
pub mod server;
pub mod site;
pub mod strace;
pub mod tokens;
pub mod users;
