//! The whole system under test: one program of many tests, each file one idea.

mod bad_input;
mod clients;
mod dialogue;
mod differential;
mod inetd_servers;
mod rules;
