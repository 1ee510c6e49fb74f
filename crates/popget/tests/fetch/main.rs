//! popget as a user runs it, against a server that behaves and one that does not.

mod broken;
mod command;
mod fetching;
mod places;
mod site;
