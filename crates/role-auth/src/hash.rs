//! Stored hashes in all their forms, and the one place where a password meets one: every check costs a whole hash, be the
//! user unknown, the account locked or the stored hash broken.
//!
//! Runs in auth's worker processes; [`Usual`] is found out once, in auth itself, from what the stores hold.

use std::collections::HashMap;
use std::ffi::CString;

use sasl::scram::{DECOY_KEY_OCTETS, DEFAULT_ITERATIONS, Decoys, SALT_OCTETS, Verifier};
use subtle::ConstantTimeEq;

use crate::bindings::crypt::Crypt;
use crate::name::Password;

/// What is hashed with where no store holds a hash: yescrypt at Debian's default cost.
const DEFAULT_SETTING: &str = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1";

/// Kinds of hashes that are told apart when the most usual is looked for; more only occur in a broken store.
const MAX_KINDS: usize = 64;

/// How a password and what is stored go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// It is the password.
    Right,
    /// It is not.
    Wrong,
    /// There is no password that would be right: the hash begins with `!` or `*`, or is empty.
    Locked,
    /// What is stored is no hash of a known form.
    Unusable,
}

/// Checks passwords.
pub struct Checker {
    crypt: Crypt,
    usual: Usual,
}

impl Checker {
    /// A checker that spends on hopeless cases what `usual` costs.
    pub fn new(crypt: Crypt, usual: Usual) -> Self {
        Self { crypt, usual }
    }

    /// Compares, at the cost of one hash.
    pub fn check(&self, password: &Password, stored: &str) -> Match {
        let hopeless = if is_locked(stored) {
            Match::Locked
        } else if let Ok(verifier) = Verifier::parse(stored) {
            return matched(verifier.verify_password(password.as_bytes()));
        } else {
            match self.check_crypt(password, stored) {
                Some(right) => return matched(right),
                None => Match::Unusable,
            }
        };
        self.spend(password);
        hopeless
    }

    /// Costs what [`check`](Self::check) usually costs, for a user whom no store knows.
    pub fn spend(&self, password: &Password) {
        match &self.usual {
            Usual::Crypt(setting) => drop(self.crypt.hash(password, setting)),
            Usual::Scram(verifier) => {
                std::hint::black_box(verifier.verify_password(password.as_bytes()));
            }
        }
    }

    fn check_crypt(&self, password: &Password, stored: &str) -> Option<bool> {
        let setting = CString::new(stored).ok()?;
        if !self.crypt.understands(&setting) {
            return None;
        }
        let computed = self.crypt.hash(password, &setting)?;
        Some(computed.as_slice().ct_eq(stored.as_bytes()).into())
    }
}

fn matched(right: bool) -> Match {
    if right { Match::Right } else { Match::Wrong }
}

/// Whether no password goes with what is stored: none at all must not mean that every password does.
pub fn is_locked(stored: &str) -> bool {
    stored.is_empty() || stored.starts_with(['!', '*'])
}

/// The form and cost that most hashes of the stores have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usual {
    /// A setting for crypt(3).
    Crypt(CString),
    /// A SCRAM verifier, which no password matches.
    Scram(Box<Verifier>),
}

impl Usual {
    /// A setting of the administrator's choice, if it is one.
    pub fn of_setting(crypt: &Crypt, setting: &str) -> Option<Self> {
        let setting = CString::new(setting).ok()?;
        crypt.hash(&Password::placeholder(), &setting)?;
        Some(Self::Crypt(setting))
    }

    /// A verifier of the cost of another.
    fn like(verifier: &Verifier) -> Self {
        let nobody = Decoys::new([0; DECOY_KEY_OCTETS], verifier.iterations(), SALT_OCTETS);
        Self::Scram(Box::new(nobody.verifier("", verifier.hash())))
    }
}

impl Default for Usual {
    fn default() -> Self {
        Self::Crypt(CString::new(DEFAULT_SETTING).unwrap_or_default())
    }
}

/// Finds the usual form among hashes.
#[derive(Debug, Default)]
pub struct Census {
    /// For each kind how many there are, and one of them as an example.
    kinds: HashMap<String, (u64, Usual)>,
    /// Of SCRAM verifiers: for each shape how many have it.
    shapes: HashMap<Shape, u64>,
}

/// What a SCRAM client sees of a verifier before it has proven anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// Iterations.
    pub iterations: u32,
    /// Octets of salt.
    pub salt_octets: usize,
}

impl Census {
    /// Counts a stored hash; a locked or broken one does not count.
    pub fn count(&mut self, stored: &str) {
        let Some((kind, example)) = kind(stored) else {
            return;
        };
        if let Ok(verifier) = Verifier::parse(stored) {
            let shape = Shape {
                iterations: verifier.iterations(),
                salt_octets: verifier.salt().len(),
            };
            if self.shapes.len() < MAX_KINDS || self.shapes.contains_key(&shape) {
                let count = self.shapes.entry(shape).or_default();
                *count = count.saturating_add(1);
            }
        }
        if let Some((count, _)) = self.kinds.get_mut(&kind) {
            *count = count.saturating_add(1);
        } else if self.kinds.len() < MAX_KINDS {
            self.kinds.insert(kind, (1, example));
        }
    }

    /// The most usual form.
    pub fn usual(&self) -> Usual {
        self.kinds
            .iter()
            .max_by(|one, other| (one.1.0, one.0).cmp(&(other.1.0, other.0)))
            .map(|(_, (_, usual))| usual.clone())
            .unwrap_or_default()
    }

    /// The most usual shape of SCRAM verifiers; where there is none, that of new ones.
    pub fn usual_shape(&self) -> Shape {
        let usual = self
            .shapes
            .iter()
            .max_by_key(|&(shape, count)| (count, shape));
        usual.map_or(
            Shape {
                iterations: DEFAULT_ITERATIONS,
                salt_octets: SALT_OCTETS,
            },
            |(shape, _)| *shape,
        )
    }
}

/// What says the cost of a hash (method and parameters, not the salt), and how to hash another password at that cost.
fn kind(stored: &str) -> Option<(String, Usual)> {
    if is_locked(stored) {
        return None;
    }
    if let Ok(verifier) = Verifier::parse(stored) {
        let kind = format!("{}${}", verifier.hash().scheme(), verifier.iterations());
        return Some((kind, Usual::like(&verifier)));
    }
    let (kind, setting) = if stored.starts_with("$2") {
        // `$2b$12$`, then 22 characters of salt and the hash without anything between.
        (stored.get(..7)?, stored.get(..29)?)
    } else if stored.starts_with("$7$") {
        // scrypt: N, r and p are the first 11 characters, directly followed by the salt.
        (stored.get(..14)?, stored.rsplit_once('$')?.0)
    } else if stored.starts_with('$') {
        // Parameters, where there are any, are a field of their own ahead of the salt.
        let setting = stored.rsplit_once('$')?.0;
        (setting.rsplit_once('$')?.0, setting)
    } else if stored.starts_with('_') {
        (stored.get(..5)?, stored.get(..9)?)
    } else if stored.len() == 13 {
        ("", stored.get(..2)?)
    } else {
        return None;
    };
    Some((kind.to_owned(), Usual::Crypt(CString::new(setting).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sasl::scram::Hash;

    const SHA512: &str = "$6$rounds=1000$5ZR7b9vXtc8BZlft$vzc2/gan/a40MbGitNBuAFYo1A.cOA2yFWqd1xjfS20WXCOkQwA8oF84BHNRF19Rwzw7Hzub8lHqn4qb5mxR61";

    fn checker() -> Checker {
        Checker::new(Crypt::load().unwrap(), Usual::default())
    }

    fn setting(text: &str) -> Usual {
        Usual::Crypt(CString::new(text).unwrap())
    }

    #[test]
    fn right_and_wrong_are_told_apart() {
        let right = Password::parse("pässword:1".as_bytes()).unwrap();
        let wrong = Password::parse(b"password:1").unwrap();
        assert_eq!(checker().check(&right, SHA512), Match::Right);
        assert_eq!(checker().check(&wrong, SHA512), Match::Wrong);
    }

    #[test]
    fn locked_accounts_and_broken_hashes_have_no_right_password() {
        let password = Password::parse("pässword:1".as_bytes()).unwrap();
        for stored in ["", "!", "*", "!!", &format!("!{SHA512}"), "*0"] {
            assert_eq!(
                checker().check(&password, stored),
                Match::Locked,
                "{stored}"
            );
        }
        for stored in ["x", "$6$", "SCRAM-SHA-256$", "pässword:1", "$nosuch$a$b"] {
            assert_ne!(checker().check(&password, stored), Match::Right, "{stored}");
        }
    }

    #[test]
    fn the_most_usual_method_and_cost_is_found() {
        let mut census = Census::default();
        census.count("*");
        census.count(SHA512);
        census.count("$6$aaaa$bbbb");
        census.count("$6$cccc$dddd");
        census.count("!$6$cccc$dddd");
        assert_eq!(census.usual(), setting("$6$aaaa"));
        assert_eq!(Census::default().usual(), Usual::default());
    }

    #[test]
    fn the_most_usual_shape_of_verifiers_is_found_whatever_else_there_is() {
        let verifier = |iterations, salt: &[u8]| {
            let verifier = Verifier::derive(Hash::Sha256, b"x", salt, iterations);
            verifier.unwrap().to_text()
        };
        let new = Census::default().usual_shape();
        assert_eq!((new.iterations, new.salt_octets), (DEFAULT_ITERATIONS, 16));
        let mut census = Census::default();
        for stored in [SHA512, SHA512, SHA512, "*"] {
            census.count(stored);
        }
        assert_eq!(census.usual_shape(), new);
        census.count(&verifier(4096, b"0123456789ab"));
        census.count(&verifier(4096, b"abcdef012345"));
        census.count(&verifier(5000, b"0123456789abcdef"));
        let usual = census.usual_shape();
        assert_eq!((usual.iterations, usual.salt_octets), (4096, 12));
        assert_eq!(census.usual(), setting("$6$rounds=1000$5ZR7b9vXtc8BZlft"));
    }

    #[test]
    fn every_form_has_a_setting_of_the_same_cost() {
        for (stored, kind_of_it, setting_of_it) in [
            ("$y$j9T$salt$hash", "$y$j9T", "$y$j9T$salt"),
            ("$gy$j9T$salt$hash", "$gy$j9T", "$gy$j9T$salt"),
            (
                "$7$CU..../....salt$hash",
                "$7$CU..../....",
                "$7$CU..../....salt",
            ),
            (
                "$6$rounds=1000$salt$hash",
                "$6$rounds=1000",
                "$6$rounds=1000$salt",
            ),
            ("$1$salt$hash", "$1", "$1$salt"),
            (
                "$2b$05$jngh7a3dgkUcxEuKqjxKH.6sTuGYMlwQ.cJnLkpts19P0RIwI4Voe",
                "$2b$05$",
                "$2b$05$jngh7a3dgkUcxEuKqjxKH.",
            ),
            ("uUfVr7coT6yTg", "", "uU"),
        ] {
            assert_eq!(
                kind(stored),
                Some((kind_of_it.to_owned(), setting(setting_of_it)))
            );
        }
        assert_eq!(kind("x"), None);
        assert_eq!(kind("$"), None);
    }

    #[test]
    fn every_setting_can_be_hashed_with() {
        let crypt = Crypt::load().unwrap();
        let password = Password::placeholder();
        let hashes = [
            DEFAULT_SETTING,
            "$2b$05$jngh7a3dgkUcxEuKqjxKH.",
            "$6$rounds=1000$5ZR7b9vXtc8BZlft",
            "$7$CU..../....PPNe0vqYM7cb2",
            "uU",
        ];
        for hash in hashes {
            let hash = CString::new(hash).unwrap();
            assert!(crypt.hash(&password, &hash).is_some(), "{hash:?}");
        }
    }
}
