//! One record as one line, in text or JSON.

use std::fmt::Write;

use messages::log::{Level, Record};

use super::Speaker;
use crate::configuration::file::LogFormat;

/// Fields of one line; a role never sends as many.
const MAX_FIELDS: usize = 32;

/// Makes the line, without a line end.
pub fn format(format: LogFormat, speaker: Speaker, record: &Record) -> String {
    match format {
        LogFormat::Text => text(record),
        LogFormat::Json => json(speaker, record),
    }
}

fn role_name(speaker: Speaker) -> &'static str {
    speaker.role.map_or("master", messages::role::Role::name)
}

/// `login: user=alice peer=192.0.2.1:4711`; a value with spaces, quotes or nothing in it is quoted.
fn text(record: &Record) -> String {
    let mut line = String::with_capacity(128);
    push_text(&mut line, &record.event);
    let mut separator = ": ";
    for (key, value) in record.fields.iter().take(MAX_FIELDS) {
        line.push_str(separator);
        separator = " ";
        push_text(&mut line, key);
        line.push('=');
        if value.is_empty() || value.contains([' ', '"', '=', '\\']) {
            line.push('"');
            push_text(&mut line, value);
            line.push('"');
        } else {
            push_text(&mut line, value);
        }
    }
    line
}

/// Control octets and what a terminal may take for one become `\xNN`; a quote and a backslash are escaped.
fn push_text(line: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            ' '..='~' => line.push(character),
            _ if character.is_control() || !is_plain(character) => {
                let mut octets = [0; 4];
                for octet in character.encode_utf8(&mut octets).bytes() {
                    // Writing to a string cannot fail.
                    let _ = write!(line, "\\x{octet:02x}");
                }
            }
            _ => line.push(character),
        }
    }
}

/// Letters and digits of any script; not the invisible and direction-changing rest.
fn is_plain(character: char) -> bool {
    character.is_alphanumeric()
}

fn json(speaker: Speaker, record: &Record) -> String {
    let mut line = String::with_capacity(192);
    line.push_str("{\"level\":");
    push_json(
        &mut line,
        match record.level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Info => "info",
        },
    );
    line.push_str(",\"event\":");
    push_json(&mut line, &record.event);
    line.push_str(",\"role\":");
    push_json(&mut line, role_name(speaker));
    let _ = write!(line, ",\"pid\":{}", speaker.pid);
    for (key, value) in record.fields.iter().take(MAX_FIELDS) {
        line.push(',');
        push_json(&mut line, key);
        line.push(':');
        push_json(&mut line, value);
    }
    line.push('}');
    line
}

/// RFC 8259 section 7, with everything but printable ASCII as `\uNNNN`.
fn push_json(line: &mut String, text: &str) {
    line.push('"');
    for character in text.chars() {
        match character {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            ' '..='~' => line.push(character),
            _ => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    let _ = write!(line, "\\u{unit:04x}");
                }
            }
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use messages::role::Role;

    const SPEAKER: Speaker = Speaker {
        role: Some(Role::Auth),
        pid: 7,
    };

    fn record() -> Record {
        Record::info("login")
            .with("user", "al ice")
            .with("peer", "192.0.2.1:4711")
            .with("odd", "a\nb\u{1b}[0m\"\u{202e}é")
    }

    #[test]
    fn text_is_one_line_whatever_the_values_hold() {
        assert_eq!(
            format(LogFormat::Text, SPEAKER, &record()),
            r#"login: user="al ice" peer=192.0.2.1:4711 odd="a\x0ab\x1b[0m\"\xe2\x80\xaeé""#
        );
    }

    #[test]
    fn json_is_one_line_of_ascii() {
        assert_eq!(
            format(LogFormat::Json, SPEAKER, &record()),
            r#"{"level":"info","event":"login","role":"auth","pid":7,"user":"al ice","peer":"192.0.2.1:4711","odd":"a\u000ab\u001b[0m\"\u202e\u00e9"}"#
        );
    }
}
