//! The whole system under test: one program of many tests, each file one idea.

mod accounts;
mod activation;
mod attack;
mod bad_input;
mod clients;
mod command_line;
mod concurrency;
mod confinement;
mod demo;
mod dialogue;
mod differential;
mod domains;
mod dotlocks;
mod inetd_servers;
mod limits;
mod logs;
mod maildrops;
mod migration;
mod oauth;
mod proxied;
mod roles;
mod rules;
mod sasl;
mod tls;
mod trouble;
mod utf8;
