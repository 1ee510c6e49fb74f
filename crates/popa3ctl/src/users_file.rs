//! A users file as lines: what is not changed stays as it is, comments and errors too.

use std::path::Path;

use app_passwords::Restriction;
use sasl::scram::Verifier;
use zeroize::Zeroizing;

use crate::text_file;

/// The text of a file.
pub struct UsersFile {
    text: Zeroizing<String>,
}

/// A line that names a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The name.
    pub name: &'a str,
    hash: &'a str,
    /// What follows, its `:` first; or nothing.
    rest: &'a str,
}

impl<'a> Line<'a> {
    /// `None` for one that says nothing, or has no `:`.
    fn parse(line: &'a str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let (name, behind) = line.split_once(':')?;
        // A verifier has two colons of its own (RFC 5803).
        let is_verifier = behind
            .trim_start_matches(['!', '*'])
            .starts_with("SCRAM-SHA-");
        let colon = behind
            .match_indices(':')
            .nth(if is_verifier { 2 } else { 0 });
        let (hash, rest) = behind.split_at(colon.map_or(behind.len(), |(at, _)| at));
        Some(Self { name, hash, rest })
    }

    /// uid, gid, home and maildrop; `None` for those that are empty or not there.
    pub fn fields(&self) -> [Option<&'a str>; 4] {
        let rest = self.rest.strip_prefix(':').unwrap_or_default();
        let mut fields = rest
            .splitn(4, ':')
            .map(|field| Some(field).filter(|field| !field.is_empty()));
        let mut fields: [_; 4] = std::array::from_fn(|_| fields.next().flatten());
        let [.., last] = &mut fields;
        // Rights stand ahead of the maildrop, or in its place.
        let (first, behind) = last
            .and_then(|last| last.split_once(':'))
            .unwrap_or((last.unwrap_or_default(), ""));
        if Restriction::of_name(first).is_some() {
            *last = Some(behind).filter(|behind| !behind.is_empty());
        }
        fields
    }

    /// How the password is kept, for a list.
    pub fn kept(&self) -> String {
        let hash = self.hash.trim_start_matches(['!', '*']);
        let kept = match Verifier::parse(hash) {
            Ok(verifier) => format!("{} {}", verifier.hash().scheme(), verifier.iterations()),
            Err(_) if hash.is_empty() => "none".to_owned(),
            Err(_) => "crypt".to_owned(),
        };
        if hash.len() == self.hash.len() {
            kept
        } else {
            format!("{kept}, locked")
        }
    }
}

impl UsersFile {
    /// Reads a file.
    ///
    /// # Errors
    /// One sentence with its name.
    pub fn read(path: &Path) -> Result<Self, String> {
        text_file::read(path).map(|text| Self { text })
    }

    /// Reads a file, which need not exist yet, changes it, and writes it anew.
    ///
    /// # Errors
    /// One sentence; the file is as it was.
    pub fn change(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        text_file::change(path, |text| {
            let mut users = Self {
                text: Zeroizing::new(std::mem::take(text)),
            };
            change(&mut users)?;
            *text = std::mem::take(&mut users.text);
            Ok(())
        })
    }

    /// The lines that name users.
    pub fn users(&self) -> impl Iterator<Item = Line<'_>> {
        self.text.lines().filter_map(Line::parse)
    }

    /// # Errors
    /// There is such a user.
    pub fn check_unknown(&self, name: &str) -> Result<(), String> {
        match self.users().find(|line| line.name == name) {
            Some(_) => Err(format!("{name} is there already")),
            None => Ok(()),
        }
    }

    /// # Errors
    /// There is no such user.
    pub fn check_known(&self, name: &str) -> Result<(), String> {
        match self.users().find(|line| line.name == name) {
            Some(_) => Ok(()),
            None => Err(format!("there is no user {name}")),
        }
    }

    /// Adds a line at the end.
    ///
    /// # Errors
    /// There is such a user.
    pub fn add(&mut self, name: &str, hash: &str, fields: &[String; 4]) -> Result<(), String> {
        self.check_unknown(name)?;
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        let line = format!("{name}:{hash}:{}", fields.join(":"));
        self.text.push_str(line.trim_end_matches(':'));
        self.text.push('\n');
        Ok(())
    }

    /// Replaces a user's hash.
    ///
    /// # Errors
    /// There is no such user.
    pub fn set_hash(&mut self, name: &str, hash: &str) -> Result<(), String> {
        self.check_known(name)?;
        self.each_line(|text| match Line::parse(text) {
            Some(line) if line.name == name => Some(format!("{name}:{hash}{}", line.rest)),
            _ => Some(text.to_owned()),
        });
        Ok(())
    }

    /// Removes a user's line.
    ///
    /// # Errors
    /// There is no such user.
    pub fn remove(&mut self, name: &str) -> Result<(), String> {
        self.check_known(name)?;
        self.each_line(|text| match Line::parse(text) {
            Some(line) if line.name == name => None,
            _ => Some(text.to_owned()),
        });
        Ok(())
    }

    fn each_line(&mut self, change: impl Fn(&str) -> Option<String>) {
        let lines = self.text.lines().filter_map(change);
        let text: String = lines.map(|line| line + "\n").collect();
        self.text = Zeroizing::new(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    fn users(text: &str) -> UsersFile {
        UsersFile {
            text: Zeroizing::new(text.to_owned()),
        }
    }

    #[test]
    fn only_the_hash_is_changed_and_what_follows_stays() {
        let before =
            format!("# people\n\njoe:$6$a$b:1:2::mbox:/a:b\nann:!{VERIFIER}:3:4\nbad line\nbob:x");
        let mut users = users(&before);
        for name in ["joe", "ann", "bob"] {
            users.set_hash(name, "NEW").unwrap();
        }
        let after = "# people\n\njoe:NEW:1:2::mbox:/a:b\nann:NEW:3:4\nbad line\nbob:NEW\n";
        assert_eq!(*users.text, after);
        assert!(users.set_hash("jo", "NEW").is_err());
    }

    #[test]
    fn a_user_is_added_once_and_removed() {
        let mut users = users("# people");
        let fields = ["1", "2", "", "maildir:/m"].map(str::to_owned);
        users.add("joe", "H", &fields).unwrap();
        users.add("ann", "H", &Default::default()).unwrap();
        assert_eq!(*users.text, "# people\njoe:H:1:2::maildir:/m\nann:H\n");
        assert!(users.add("joe", "H", &fields).is_err());
        users.remove("joe").unwrap();
        assert_eq!(*users.text, "# people\nann:H\n");
        assert!(users.remove("joe").is_err());
    }

    #[test]
    fn fields_are_those_behind_the_hash_whatever_colons_it_has() {
        let users = users(&format!("a:{VERIFIER}:1:2::mbox:/a:b\nb:x\n"));
        let fields: Vec<_> = users.users().map(|line| line.fields()).collect();
        assert_eq!(
            fields,
            [[Some("1"), Some("2"), None, Some("mbox:/a:b")], [None; 4]]
        );
    }

    #[test]
    fn rights_are_no_part_of_the_maildrop() {
        let users = users("a:x:1:1::read-only:maildir:/m\nb:x::::no-delete\nc:x::::mbox:/a:b\n");
        let maildrops: Vec<_> = users.users().map(|line| line.fields()[3]).collect();
        assert_eq!(maildrops, [Some("maildir:/m"), None, Some("mbox:/a:b")]);
    }

    #[test]
    fn a_list_says_how_passwords_are_kept() {
        let users = users(&format!("a:{VERIFIER}\nb:$6$x$y\nc:!{VERIFIER}:1:1\nd:!\n"));
        let kept: Vec<String> = users.users().map(|line| line.kept()).collect();
        let expected = [
            "SCRAM-SHA-256 4096",
            "crypt",
            "SCRAM-SHA-256 4096, locked",
            "none, locked",
        ];
        assert_eq!(kept, expected);
    }
}
