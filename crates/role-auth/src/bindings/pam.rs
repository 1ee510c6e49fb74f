//! libpam: one transaction that asks the service's modules about one password.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::mem::transmute;
use std::ptr::{self, NonNull};

use super::dynamic::{Library, MissingLibrary};
use crate::name::Password;

/// Messages a module may put into one call of the conversation: PAM_MAX_NUM_MSG of Linux-PAM.
const MAX_MESSAGES: usize = 32;

/// How often the modules of one attempt may ask for the password: a stack whose modules do not share it asks once each.
const MAX_PROMPTS: u32 = 8;

// Linux-PAM's numbers (`_pam_types.h`), the same since its first release.
const PAM_SUCCESS: c_int = 0;
const PAM_AUTH_ERR: c_int = 7;
const PAM_USER_UNKNOWN: c_int = 10;
const PAM_MAXTRIES: c_int = 11;
const PAM_NEW_AUTHTOK_REQD: c_int = 12;
const PAM_ACCT_EXPIRED: c_int = 13;
const PAM_PERM_DENIED: c_int = 6;
const PAM_CRED_INSUFFICIENT: c_int = 8;
const PAM_BUF_ERR: c_int = 5;
const PAM_CONV_ERR: c_int = 19;
const PAM_AUTHTOK_EXPIRED: c_int = 27;
const PAM_USER: c_int = 2;
const PAM_TTY: c_int = 3;
const PAM_RHOST: c_int = 4;
const PAM_FAIL_DELAY: c_int = 10;
const PAM_PROMPT_ECHO_OFF: c_int = 1;
const PAM_ERROR_MSG: c_int = 3;
const PAM_TEXT_INFO: c_int = 4;
const PAM_DISALLOW_NULL_AUTHTOK: c_int = 0x0001;
const PAM_SILENT: c_int = 0x8000;

type Handle = *mut c_void;
type Start =
    unsafe extern "C" fn(*const c_char, *const c_char, *const Conversation, *mut Handle) -> c_int;
type End = unsafe extern "C" fn(Handle, c_int) -> c_int;
type SetItem = unsafe extern "C" fn(Handle, c_int, *const c_void) -> c_int;
type GetItem = unsafe extern "C" fn(Handle, c_int, *mut *const c_void) -> c_int;
type Stage = unsafe extern "C" fn(Handle, c_int) -> c_int;

#[repr(C)]
struct Message {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct Response {
    text: *mut c_char,
    code: c_int,
}

#[repr(C)]
struct Conversation {
    converse: extern "C" fn(c_int, *mut *const Message, *mut *mut Response, *mut c_void) -> c_int,
    answers: *mut c_void,
}

/// The loaded library.
pub struct Pam {
    start: Start,
    end: End,
    set_item: SetItem,
    get_item: GetItem,
    authenticate: Stage,
    account: Stage,
}

/// What the modules said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The password is right and the account may be used, under the name that the modules settled on.
    Accepted(String),
    /// They know no such user.
    UserUnknown,
    /// Wrong password, or the modules do not tell which of the two.
    Refused,
    /// Right password, but the account or the password has expired, or is not allowed here.
    AccountRefused,
    /// The modules could not decide; Linux-PAM's number.
    Failed(c_int),
}

impl Pam {
    /// Loads the library.
    ///
    /// # Errors
    /// The system has none.
    pub fn load() -> Result<Self, MissingLibrary> {
        let library = Library::open(&[c"libpam.so.0"])?;
        let start = library.function(c"pam_start")?;
        let end = library.function(c"pam_end")?;
        let set_item = library.function(c"pam_set_item")?;
        let get_item = library.function(c"pam_get_item")?;
        let authenticate = library.function(c"pam_authenticate")?;
        let account = library.function(c"pam_acct_mgmt")?;
        // SAFETY: each type is the declaration in the function's manual page; opaque structures are pointers to void.
        unsafe {
            Ok(Self {
                start: transmute::<NonNull<c_void>, Start>(start),
                end: transmute::<NonNull<c_void>, End>(end),
                set_item: transmute::<NonNull<c_void>, SetItem>(set_item),
                get_item: transmute::<NonNull<c_void>, GetItem>(get_item),
                authenticate: transmute::<NonNull<c_void>, Stage>(authenticate),
                account: transmute::<NonNull<c_void>, Stage>(account),
            })
        }
    }

    /// Asks whether `password` is `user`'s and the account may be used; without one, only the latter.
    ///
    /// Runs foreign modules: they may take any time, leave descriptors, threads and children behind, or crash. To be
    /// called in a process that ends afterwards.
    pub fn ask(
        &self,
        service: &CStr,
        user: &CStr,
        password: Option<&Password>,
        remote_host: Option<&CStr>,
    ) -> Answer {
        let placeholder = Password::placeholder();
        let mut answers = Answers {
            password: password.unwrap_or(&placeholder),
            // Where there is none, nothing may be asked.
            left: password.map_or(0, |_| MAX_PROMPTS),
        };
        let conversation = Conversation {
            converse,
            answers: (&raw mut answers).cast(),
        };
        let mut transaction = match Transaction::start(self, service, user, &conversation) {
            Ok(transaction) => transaction,
            Err(code) => return Answer::Failed(code),
        };
        let verdict = transaction.run(remote_host, password.is_some());
        drop(transaction);
        verdict
    }
}

/// A handle from pam_start, ended when dropped.
struct Transaction<'a> {
    pam: &'a Pam,
    handle: Handle,
    /// What the last stage returned, which pam_end tells the modules.
    last: c_int,
    /// Refers to it until the end.
    _conversation: &'a Conversation,
}

impl<'a> Transaction<'a> {
    fn start(
        pam: &'a Pam,
        service: &CStr,
        user: &CStr,
        conversation: &'a Conversation,
    ) -> Result<Self, c_int> {
        let mut handle = ptr::null_mut();
        // SAFETY: the strings are NUL-terminated and are copied; the conversation is copied, and what it points to
        // outlives the transaction; the handle is written before it is used.
        let code =
            unsafe { (pam.start)(service.as_ptr(), user.as_ptr(), conversation, &mut handle) };
        if code != PAM_SUCCESS || handle.is_null() {
            return Err(code);
        }
        Ok(Self {
            pam,
            handle,
            last: PAM_SUCCESS,
            _conversation: conversation,
        })
    }

    fn run(&mut self, remote_host: Option<&CStr>, authenticates: bool) -> Answer {
        // pam_faillock and fail2ban count by it.
        if let Some(host) = remote_host {
            self.set_text(PAM_RHOST, host);
        }
        // Some modules (pam_access, pam_time) refuse a transaction without a terminal; daemons give their name.
        self.set_text(PAM_TTY, c"pop3");
        self.set_no_delay();
        let flags = PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK;
        let authenticated = if authenticates {
            self.stage(self.pam.authenticate, flags)
        } else {
            PAM_SUCCESS
        };
        match authenticated {
            PAM_SUCCESS => {}
            PAM_USER_UNKNOWN => return Answer::UserUnknown,
            PAM_AUTH_ERR | PAM_PERM_DENIED | PAM_MAXTRIES | PAM_CRED_INSUFFICIENT => {
                return Answer::Refused;
            }
            PAM_ACCT_EXPIRED | PAM_AUTHTOK_EXPIRED | PAM_NEW_AUTHTOK_REQD => {
                return Answer::AccountRefused;
            }
            code => return Answer::Failed(code),
        }
        match self.stage(self.pam.account, flags) {
            PAM_SUCCESS => {}
            // An expired password cannot be changed over POP3.
            PAM_NEW_AUTHTOK_REQD | PAM_ACCT_EXPIRED | PAM_AUTHTOK_EXPIRED | PAM_PERM_DENIED
            | PAM_AUTH_ERR | PAM_USER_UNKNOWN => return Answer::AccountRefused,
            code => return Answer::Failed(code),
        }
        match self.user() {
            Some(user) => Answer::Accepted(user),
            None => Answer::Failed(PAM_USER_UNKNOWN),
        }
    }

    fn stage(&mut self, function: Stage, flags: c_int) -> c_int {
        // SAFETY: the handle is open. The modules are the administrator's choice and run with our rights.
        self.last = unsafe { function(self.handle, flags) };
        self.last
    }

    fn set_text(&mut self, item: c_int, text: &CStr) {
        // SAFETY: the handle is open; the library copies the NUL-terminated text.
        unsafe { (self.pam.set_item)(self.handle, item, text.as_ptr().cast()) };
    }

    /// Auth delays failures itself: a sleeping module would only hold a worker.
    fn set_no_delay(&mut self) {
        let function: extern "C" fn(c_int, c_uint, *mut c_void) = no_delay;
        // SAFETY: the handle is open; this item is a function of exactly that type (pam_fail_delay(3)).
        unsafe { (self.pam.set_item)(self.handle, PAM_FAIL_DELAY, function as *const c_void) };
    }

    /// The user's name after all modules have run.
    fn user(&self) -> Option<String> {
        let mut item = ptr::null();
        // SAFETY: the handle is open and the result lives during the call.
        let code = unsafe { (self.pam.get_item)(self.handle, PAM_USER, &mut item) };
        if code != PAM_SUCCESS || item.is_null() {
            return None;
        }
        // SAFETY: PAM_USER is a NUL-terminated string that the handle owns until it ends.
        let user = unsafe { CStr::from_ptr(item.cast()) };
        user.to_str().ok().map(str::to_owned)
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is open and is not used afterwards.
        unsafe { (self.pam.end)(self.handle, self.last) };
    }
}

extern "C" fn no_delay(_: c_int, _: c_uint, _: *mut c_void) {}

/// What the conversation answers with.
struct Answers<'a> {
    password: &'a Password,
    left: u32,
}

/// A module's questions. What is asked without echo gets the password, messages get nothing; a question with echo has
/// nobody to answer it, and ends the attempt.
extern "C" fn converse(
    count: c_int,
    messages: *mut *const Message,
    responses: *mut *mut Response,
    answers: *mut c_void,
) -> c_int {
    let count = match usize::try_from(count) {
        Ok(count @ 1..=MAX_MESSAGES) => count,
        _ => return PAM_CONV_ERR,
    };
    if messages.is_null() || responses.is_null() || answers.is_null() {
        return PAM_CONV_ERR;
    }
    // SAFETY: what `ask` put into the conversation, alive until its transaction has ended; nobody else refers to it now.
    let answers = unsafe { &mut *answers.cast::<Answers<'_>>() };
    // SAFETY: Linux-PAM passes an array of `count` pointers.
    let messages = unsafe { std::slice::from_raw_parts(messages, count) };
    // SAFETY: allocates only. The module frees it with free(3).
    let block: *mut Response = unsafe { libc::calloc(count, size_of::<Response>()) }.cast();
    if block.is_null() {
        return PAM_BUF_ERR;
    }
    // SAFETY: as many zeroed responses were allocated, for which all zeroes is valid.
    let block_of_responses = unsafe { std::slice::from_raw_parts_mut(block, count) };
    for (message, response) in messages.iter().zip(block_of_responses.iter_mut()) {
        // SAFETY: each pointer is null or to a message that lives during this call.
        let style = unsafe { message.as_ref() }.map_or(0, |message| message.style);
        let text = match style {
            PAM_ERROR_MSG | PAM_TEXT_INFO => continue,
            PAM_PROMPT_ECHO_OFF => answers.next(),
            _ => None,
        };
        let Some(text) = text else {
            discard(block, block_of_responses);
            return PAM_CONV_ERR;
        };
        response.text = text.as_ptr();
    }
    // SAFETY: not null, and the caller's to be written.
    unsafe { *responses = block };
    PAM_SUCCESS
}

impl Answers<'_> {
    /// The password once more, allocated as the module will free it (and wipe it: Linux-PAM's modules do).
    fn next(&mut self) -> Option<NonNull<c_char>> {
        self.left = self.left.checked_sub(1)?;
        // SAFETY: the password is NUL-terminated.
        NonNull::new(unsafe { libc::strdup(self.password.as_c_str().as_ptr()) })
    }
}

/// Wipes and frees responses that nobody will get.
fn discard(block: *mut Response, responses: &mut [Response]) {
    for response in responses {
        if response.text.is_null() {
            continue;
        }
        // SAFETY: from strdup, so NUL-terminated, writable, and its length is the string's.
        unsafe { libc::explicit_bzero(response.text.cast(), libc::strlen(response.text)) };
        // SAFETY: from strdup and referred to nowhere else.
        unsafe { libc::free(response.text.cast()) };
    }
    // SAFETY: from calloc and not used afterwards.
    unsafe { libc::free(block.cast()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls the conversation as a module would.
    fn ask(styles: &[c_int], answers: &mut Answers<'_>) -> Result<Vec<Option<String>>, c_int> {
        let messages: Vec<Message> = styles
            .iter()
            .map(|&style| Message {
                style,
                text: c"Password:".as_ptr(),
            })
            .collect();
        let mut pointers: Vec<*const Message> = messages.iter().map(ptr::from_ref).collect();
        let mut responses = ptr::null_mut();
        let code = converse(
            c_int::try_from(styles.len()).unwrap(),
            pointers.as_mut_ptr(),
            &mut responses,
            ptr::from_mut(answers).cast(),
        );
        if code != PAM_SUCCESS {
            return Err(code);
        }
        // SAFETY: the conversation returned as many responses as it was asked.
        let slice = unsafe { std::slice::from_raw_parts_mut(responses, styles.len()) };
        let texts = slice
            .iter()
            .map(|response| {
                // SAFETY: null or a string.
                (!response.text.is_null()).then(|| unsafe { CStr::from_ptr(response.text) })
            })
            .map(|text| text.map(|text| text.to_str().unwrap().to_owned()))
            .collect();
        discard(responses, slice);
        Ok(texts)
    }

    #[test]
    fn a_prompt_without_echo_gets_the_password_and_messages_get_nothing() {
        let password = Password::parse(b"secret").unwrap();
        let mut answers = Answers {
            password: &password,
            left: MAX_PROMPTS,
        };
        assert_eq!(
            ask(
                &[PAM_TEXT_INFO, PAM_PROMPT_ECHO_OFF, PAM_ERROR_MSG],
                &mut answers
            ),
            Ok(vec![None, Some("secret".to_owned()), None])
        );
    }

    #[test]
    fn a_prompt_with_echo_ends_the_attempt() {
        let password = Password::parse(b"secret").unwrap();
        let mut answers = Answers {
            password: &password,
            left: MAX_PROMPTS,
        };
        const PAM_PROMPT_ECHO_ON: c_int = 2;
        assert_eq!(
            ask(&[PAM_PROMPT_ECHO_OFF, PAM_PROMPT_ECHO_ON], &mut answers),
            Err(PAM_CONV_ERR)
        );
    }

    #[test]
    fn endless_prompts_end() {
        let password = Password::parse(b"secret").unwrap();
        let mut answers = Answers {
            password: &password,
            left: 2,
        };
        assert!(ask(&[PAM_PROMPT_ECHO_OFF], &mut answers).is_ok());
        assert!(ask(&[PAM_PROMPT_ECHO_OFF], &mut answers).is_ok());
        assert_eq!(ask(&[PAM_PROMPT_ECHO_OFF], &mut answers), Err(PAM_CONV_ERR));
    }

    #[test]
    fn a_count_out_of_bounds_is_refused() {
        assert_eq!(
            converse(0, ptr::null_mut(), ptr::null_mut(), ptr::null_mut()),
            PAM_CONV_ERR
        );
        assert_eq!(
            converse(33, ptr::null_mut(), ptr::null_mut(), ptr::null_mut()),
            PAM_CONV_ERR
        );
    }
}
