//! Where an account's maildrop is: the configured template, and what it becomes for one account.
//!
//! The template is the administrator's and trusted; the account's name came from a client and is not. A name becomes
//! part of a path only as (part of) one component that can neither be hidden, nor an option, nor lead elsewhere, and
//! [`open`](crate::open()) does not follow links from the first such component on.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Longest value put into a path: NAME_MAX of Linux file systems.
pub const MAX_COMPONENT: usize = 255;

/// Kinds of maildrop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Mbox,
    Maildir,
}

/// What of an account goes into a location.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// The name as logged in: `%u`; its part before the last `@`, or all of it: `%n`; the part behind it: `%d`.
    pub name: &'a str,
    /// The home directory: `%h`.
    pub home: &'a str,
}

/// A location template such as `mbox:/var/mail/%u` or `maildir:%h/Maildir`.
///
/// `%u`, `%n` and `%d` may stand anywhere in a component, `%h` only as the beginning; `%%` is a percent sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    kind: Kind,
    from_home: bool,
    components: Vec<Vec<Part>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    User,
    Local,
    Domain,
}

/// A location for one account: a trusted base, and a path below it that no link may be part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expanded {
    pub(crate) kind: Kind,
    pub(crate) base: PathBuf,
    /// Empty only for a Maildir that is the home directory itself.
    pub(crate) below: PathBuf,
}

/// Why a template, or an account for it, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LocationError {
    /// Neither `mbox:` nor `maildir:`.
    Kind,
    /// Begins with neither `/` nor `%h`.
    NotAbsolute,
    /// A `%` with something else than `u`, `n`, `d`, `h` or `%` behind it.
    UnknownExpansion,
    /// `%h` elsewhere than as the whole beginning.
    HomeInside,
    /// A component that is empty, `.` or `..`, or a control octet in one.
    Component,
    /// Names no file.
    NoFile,
    /// The account's home directory is no absolute path.
    Home,
    /// The account's name, or the part of it that is needed, is empty.
    Empty(&'static str),
    /// The account's name, or the part of it that is needed, is unfit for a file name: it holds `/` or control octets,
    /// begins with `.` or `-`, or is too long.
    Unsafe(&'static str),
}

impl Location {
    /// Parses a template.
    ///
    /// # Errors
    /// The template is not of the form described at [`Location`].
    pub fn parse(template: &str) -> Result<Self, LocationError> {
        let (kind, path) = match template.split_once(':') {
            Some(("mbox", path)) => (Kind::Mbox, path),
            Some(("maildir", path)) => (Kind::Maildir, path),
            _ => return Err(LocationError::Kind),
        };
        let (from_home, path) = match path.strip_prefix("%h") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => (true, rest),
            Some(_) => return Err(LocationError::HomeInside),
            None => (false, path),
        };
        let components = match path.strip_prefix('/') {
            Some(path) => path.split('/').map(component).collect::<Result<_, _>>()?,
            None if from_home => Vec::new(),
            None => return Err(LocationError::NotAbsolute),
        };
        if components.is_empty() && kind == Kind::Mbox {
            return Err(LocationError::NoFile);
        }
        Ok(Location {
            kind,
            from_home,
            components,
        })
    }

    /// The directory that all mailboxes are in, if they are mboxes in one that no account has a part in: a spool.
    pub fn spool(&self) -> Option<PathBuf> {
        let (_, directories) = self.components.split_last()?;
        if self.kind != Kind::Mbox || self.from_home {
            return None;
        }
        let mut spool = PathBuf::from("/");
        for parts in directories {
            match parts.as_slice() {
                [Part::Text(text)] => spool.push(text),
                _ => return None,
            }
        }
        Some(spool)
    }

    /// Puts the account in.
    ///
    /// # Errors
    /// The account's name or home directory is not fit for it. Nothing is cut off or replaced to make it fit.
    pub fn expand(&self, account: &Account<'_>) -> Result<Expanded, LocationError> {
        let mut base = PathBuf::from("/");
        if self.from_home {
            if !account.home.starts_with('/') || account.home.contains('\0') {
                return Err(LocationError::Home);
            }
            base.push(account.home);
        }
        // The last component is never base: what lies there is looked at before it is used.
        let trusted = match self.from_home {
            true => 0,
            false => self
                .components
                .iter()
                .position(|parts| parts.iter().any(|part| !matches!(part, Part::Text(_))))
                .unwrap_or(self.components.len().saturating_sub(1)),
        };
        let mut below = PathBuf::new();
        for (number, parts) in self.components.iter().enumerate() {
            let component = expand_component(parts, account)?;
            if number < trusted {
                base.push(component);
            } else {
                below.push(component);
            }
        }
        Ok(Expanded {
            kind: self.kind,
            base,
            below,
        })
    }
}

impl Expanded {
    /// Whether the maildrop is an mbox, which has a journal.
    pub fn is_mbox(&self) -> bool {
        self.kind == Kind::Mbox
    }

    /// An mbox as a journal names it: base, NUL, path below it.
    pub(crate) fn to_place(&self) -> Vec<u8> {
        let [base, below] = [&self.base, &self.below].map(|path| path.as_os_str().as_bytes());
        [base, b"\0", below].concat()
    }

    /// The mbox that a journal names; `None` if it names none. Nothing is to be believed but that it is a path:
    /// [`open`](crate::open()) looks at it as the user whose journal it is.
    pub(crate) fn from_place(place: &[u8]) -> Option<Self> {
        let at = place.iter().position(|&octet| octet == 0)?;
        let (base, below) = place.split_at_checked(at)?;
        let [base, below] = [base, below.get(1..)?].map(|path| Path::new(OsStr::from_bytes(path)));
        let is_below = below
            .components()
            .all(|component| matches!(component, Component::Normal(_)));
        (base.is_absolute() && is_below && below.file_name().is_some()).then(|| Expanded {
            kind: Kind::Mbox,
            base: base.to_owned(),
            below: below.to_owned(),
        })
    }

    /// The whole path, for logs.
    pub fn path(&self) -> PathBuf {
        match self.below == Path::new("") {
            true => self.base.clone(),
            false => self.base.join(&self.below),
        }
    }
}

fn component(text: &str) -> Result<Vec<Part>, LocationError> {
    if matches!(text, "" | "." | "..") || text.chars().any(char::is_control) {
        return Err(LocationError::Component);
    }
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            literal.push(character);
            continue;
        }
        let expansion = match characters.next() {
            Some('%') => {
                literal.push('%');
                continue;
            }
            Some('u') => Part::User,
            Some('n') => Part::Local,
            Some('d') => Part::Domain,
            Some('h') => return Err(LocationError::HomeInside),
            _ => return Err(LocationError::UnknownExpansion),
        };
        if !literal.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut literal)));
        }
        parts.push(expansion);
    }
    if !literal.is_empty() {
        parts.push(Part::Text(literal));
    }
    Ok(parts)
}

fn expand_component(parts: &[Part], account: &Account<'_>) -> Result<String, LocationError> {
    let (local_part, domain) = account.name.rsplit_once('@').unwrap_or((account.name, ""));
    let mut component = String::new();
    for part in parts {
        component.push_str(match part {
            Part::Text(text) => text,
            Part::User => safe(account.name, "%u")?,
            Part::Local => safe(local_part, "%n")?,
            Part::Domain => safe(domain, "%d")?,
        });
    }
    if component.len() > MAX_COMPONENT {
        return Err(LocationError::Unsafe("path component"));
    }
    Ok(component)
}

/// A value that is one harmless file name: not hidden (which covers `.` and `..`), nothing that a tool would take for
/// an option, no separator, no control octet.
fn safe<'a>(value: &'a str, what: &'static str) -> Result<&'a str, LocationError> {
    if value.is_empty() {
        return Err(LocationError::Empty(what));
    }
    let fit = value.len() <= MAX_COMPONENT
        && !value.starts_with(['.', '-'])
        && !value
            .chars()
            .any(|character| character == '/' || character.is_control());
    match fit {
        true => Ok(value),
        false => Err(LocationError::Unsafe(what)),
    }
}

impl fmt::Display for LocationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LocationError::Kind => formatter.write_str("begins with neither mbox: nor maildir:"),
            LocationError::NotAbsolute => {
                formatter.write_str("the path begins with neither / nor %h")
            }
            LocationError::UnknownExpansion => {
                formatter.write_str("after % only u, n, d, h and % are known")
            }
            LocationError::HomeInside => {
                formatter.write_str("%h can only be the beginning of the path")
            }
            LocationError::Component => formatter
                .write_str("a path component is empty, \".\", \"..\" or holds a control character"),
            LocationError::NoFile => formatter.write_str("names no file"),
            LocationError::Home => formatter.write_str("the home directory is no absolute path"),
            LocationError::Empty(what) => write!(formatter, "{what} is empty for this account"),
            LocationError::Unsafe(what) => {
                write!(formatter, "{what} of this account is unfit for a file name")
            }
        }
    }
}

impl std::error::Error for LocationError {}

#[cfg(test)]
mod tests {
    use super::*;

    const JOE: Account<'_> = Account {
        name: "joe@example.org",
        home: "/home/joe",
    };

    fn expanded(template: &str) -> (PathBuf, PathBuf) {
        let expanded = Location::parse(template).unwrap().expand(&JOE).unwrap();
        (expanded.base, expanded.below)
    }

    fn for_name(template: &str, name: &str) -> Result<PathBuf, LocationError> {
        let account = Account { name, ..JOE };
        let location = Location::parse(template).unwrap();
        location.expand(&account).map(|expanded| expanded.path())
    }

    #[test]
    fn the_path_before_the_first_name_is_base() {
        let cases = [
            ("mbox:/var/mail/%u", "/var/mail", "joe@example.org"),
            ("mbox:%h/Mailbox", "/home/joe", "Mailbox"),
            ("mbox:%h/mail/in/box", "/home/joe", "mail/in/box"),
            ("maildir:%h/Maildir", "/home/joe", "Maildir"),
            ("maildir:%h", "/home/joe", ""),
            ("maildir:/srv/mail/%d/%n", "/srv/mail", "example.org/joe"),
            (
                "maildir:/srv/mail/%d/%n/Maildir",
                "/srv/mail",
                "example.org/joe/Maildir",
            ),
            ("mbox:/srv/x-%n.%d-y%%/z", "/srv", "x-joe.example.org-y%/z"),
            ("mbox:/srv/one", "/srv", "one"),
            ("mbox:/one", "/", "one"),
        ];
        for (template, base, below) in cases {
            assert_eq!(
                expanded(template),
                (base.into(), below.into()),
                "{template}"
            );
        }
    }

    #[test]
    fn templates_that_say_too_little_or_too_much_are_refused() {
        let cases = [
            ("/var/mail/%u", LocationError::Kind),
            ("mh:/var/mail/%u", LocationError::Kind),
            ("mbox:", LocationError::NotAbsolute),
            ("mbox:var/mail/%u", LocationError::NotAbsolute),
            ("mbox:%u/mail", LocationError::NotAbsolute),
            ("mbox:%hx/mail", LocationError::HomeInside),
            ("mbox:/a/%h", LocationError::HomeInside),
            ("mbox:%h", LocationError::NoFile),
            ("mbox:%h/", LocationError::Component),
            ("mbox:/", LocationError::Component),
            ("mbox:/var//mail", LocationError::Component),
            ("mbox:/var/./mail", LocationError::Component),
            ("mbox:/var/mail/../%u", LocationError::Component),
            ("mbox:/var/ma\nil/%u", LocationError::Component),
            ("mbox:/var/mail/%x", LocationError::UnknownExpansion),
            ("mbox:/var/mail/%", LocationError::UnknownExpansion),
        ];
        for (template, error) in cases {
            assert_eq!(Location::parse(template), Err(error), "{template}");
        }
    }

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        let long = "x".repeat(256);
        let unsafe_names = [
            ".",
            "..",
            ".hidden",
            "-option",
            "/",
            "a/b",
            "../b",
            "a/../../etc",
            "a\0",
            "a\n",
            "a\x7f",
            "\u{85}",
            &long,
        ];
        for name in unsafe_names {
            let result = for_name("mbox:/var/mail/%u", name);
            assert_eq!(result, Err(LocationError::Unsafe("%u")), "{name:?}");
            let result = for_name("mbox:/var/mail/%d", &format!("joe@{name}"));
            assert_eq!(result, Err(LocationError::Unsafe("%d")), "{name:?}");
        }
        for name in [
            "joe",
            "joe@..",
            "a@b@c",
            "ä",
            "%2f",
            "%2e%2e",
            "a b",
            &long[..255],
        ] {
            let expected = Path::new("/var/mail").join(name);
            assert_eq!(
                for_name("mbox:/var/mail/%u", name),
                Ok(expected),
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_part_the_name_lacks_is_not_left_out_of_the_path() {
        let template = "maildir:/srv/%d/%n";
        assert_eq!(for_name(template, "joe"), Err(LocationError::Empty("%d")));
        assert_eq!(for_name(template, "joe@"), Err(LocationError::Empty("%d")));
        assert_eq!(for_name(template, "@b"), Err(LocationError::Empty("%n")));
        assert_eq!(for_name(template, ""), Err(LocationError::Empty("%d")));
        assert_eq!(for_name("mbox:/srv/%n", "a@b@c"), Ok("/srv/a@b".into()));
        let long = format!("{0}@{0}", "x".repeat(200));
        let too_long = Err(LocationError::Unsafe("path component"));
        assert_eq!(for_name("mbox:/srv/%n-%d", &long), too_long);
    }

    #[test]
    fn a_home_directory_is_absolute() {
        let location = Location::parse("mbox:%h/Mailbox").unwrap();
        for home in ["", "home/joe", "/home\0/joe"] {
            let account = Account { home, ..JOE };
            assert_eq!(location.expand(&account), Err(LocationError::Home));
        }
    }

    #[test]
    fn a_place_in_a_journal_is_the_location_or_none() {
        let account = Account {
            name: "alice",
            home: "/home/alice",
        };
        for template in ["mbox:/var/mail/%u", "mbox:%h/mail/inbox"] {
            let location = Location::parse(template).unwrap().expand(&account).unwrap();
            assert_eq!(Expanded::from_place(&location.to_place()), Some(location));
        }
        let none: [&[u8]; 8] = [
            b"",
            b"/var/mail",
            b"/var/mail\0",
            b"var/mail\0alice",
            b"/var/mail\0/etc/passwd",
            b"/var/mail\0../alice",
            b"/var/mail\0a/../../alice",
            b"/var/mail\0a\0/b/..",
        ];
        for place in none {
            assert_eq!(Expanded::from_place(place), None, "{place:?}");
        }
    }
}
