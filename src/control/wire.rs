//! What goes over a control connection: commands, one a line, and replies to them, as text or as JSON.
//!
//! | command | reply |
//! |---|---|
//! | `servers` | the answer's lines, or `error: ` and what is wrong; then the connection is closed, as penctl(1) expects |
//! | `{"command":"servers"}` | one line, `{"ok":true,"result":...,"text":"..."}` or `{"ok":false,"error":"...","code":64,"name":"usage"}`; then the next command |
//!
//! `code` and `name` are those of sysexits(3), so that a client can exit with them.

use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use socket2::Socket;

use crate::failure::{Failure, Sysexit};

/// What a command that succeeded has to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// For people: lines, or nothing.
    pub text: String,
    /// For programs.
    pub json: Value,
}

impl Answer {
    /// An answer in both forms.
    pub fn new(text: impl Into<String>, json: Value) -> Answer {
        Answer { text: text.into(), json }
    }

    /// An answer that programs get as the same text, without the end of its last line.
    pub fn plain(text: impl Into<String>) -> Answer {
        let text = text.into();
        let json = Value::from(text.trim_end());
        Answer { text, json }
    }
}

/// What becomes of a command.
pub type Reply = Result<Answer, Failure>;

/// A command on its way to who carries it out.
#[derive(Debug)]
pub struct Request {
    /// The command: one line, not empty, without control characters but for tabs.
    pub line: String,
    /// Did it come over the Unix socket, from its owner? Otherwise over TCP.
    pub trusted: bool,
    /// Where the reply goes; sending never waits, and fails when nobody wants it any more.
    pub reply: Sender<Reply>,
}

impl Request {
    /// Replies; a client that has gone is no matter.
    pub fn answer(self, reply: Reply) {
        let _ = self.reply.send(reply);
    }
}

/// How a command came, and therefore how it is replied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it stands; the reply is text.
    Text,
    /// As a JSON object; so is the reply.
    Json,
}

impl Form {
    /// The form of a line, by its first character; it need not be whole.
    pub fn of(line: &[u8]) -> Form {
        if line.trim_ascii_start().starts_with(b"{") { Form::Json } else { Form::Text }
    }
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct JsonCommand<'a> {
    command: std::borrow::Cow<'a, str>,
}

/// Reads a line (its end may be there or not) as a command; `None` if there is nothing in it.
///
/// # Errors
/// Within: it is not UTF-8, not that JSON object, has control characters in it, or is JSON around nothing.
pub fn decode(line: &[u8]) -> Option<(Form, Result<String, Failure>)> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return None;
    }
    let form = Form::of(line);
    let command = match form {
        Form::Text => std::str::from_utf8(line)
            .map(str::to_owned)
            .map_err(|_| Failure::usage("the command is not UTF-8 text; help lists the commands")),
        Form::Json => match serde_json::from_slice::<JsonCommand>(line) {
            Ok(JsonCommand { command }) => Ok(command.trim_ascii().to_owned()),
            Err(e) => Err(Failure::usage(format!("{e}; a command in JSON is one line: {{\"command\":\"help\"}}"))),
        },
    };
    Some((form, command.and_then(check)))
}

/// A command is one line, and can be logged.
fn check(command: String) -> Result<String, Failure> {
    if command.is_empty() {
        return Err(Failure::usage("the command is empty; help lists the commands"));
    }
    match command.chars().find(|c| c.is_control() && *c != '\t') {
        Some(c) => Err(Failure::usage(format!(
            "the command has the control character {c:?} in it; write one command, in one line of plain text"
        ))),
        None => Ok(command),
    }
}

/// A command as a line of JSON.
pub fn encode_command(command: &str) -> Vec<u8> {
    line_of(&JsonCommand { command: command.into() })
}

#[derive(Serialize)]
struct JsonAnswer<'a> {
    ok: bool,
    result: &'a Value,
    text: &'a str,
}

#[derive(Serialize)]
struct JsonFailure<'a> {
    ok: bool,
    error: &'a str,
    code: u8,
    name: &'a str,
}

/// A reply as it goes over the connection: empty, or ending with the end of a line.
pub fn encode(reply: &Reply, form: Form) -> Vec<u8> {
    match (form, reply) {
        (Form::Text, Ok(answer)) => with_end(answer.text.clone()),
        (Form::Text, Err(failure)) => with_end(format!("{ERROR}{failure}")),
        (Form::Json, Ok(answer)) => line_of(&JsonAnswer { ok: true, result: &answer.json, text: &answer.text }),
        (Form::Json, Err(Failure { code, message })) => {
            line_of(&JsonFailure { ok: false, error: message, code: *code as u8, name: name(*code) })
        }
    }
}

/// What a failure begins with in text.
const ERROR: &str = "error: ";

fn with_end(mut text: String) -> Vec<u8> {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.into_bytes()
}

fn line_of(value: &impl Serialize) -> Vec<u8> {
    // Strings, numbers and values that are JSON already can always be written.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

#[derive(Deserialize)]
struct JsonReply {
    ok: bool,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    text: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    code: u8,
}

/// Reads the reply to a command in JSON. A server that cannot know yet what it is asked fails in text: that is read, too.
/// `None` if it is neither.
pub fn decode_reply(line: &[u8]) -> Option<Reply> {
    if let Some(message) = line.strip_prefix(ERROR.as_bytes()) {
        let message = String::from_utf8_lossy(message.trim_ascii());
        return Some(Err(Failure::new(Sysexit::Unavailable, message)));
    }
    let reply: JsonReply = serde_json::from_slice(line).ok()?;
    Some(if reply.ok {
        Ok(Answer { text: reply.text, json: reply.result })
    } else {
        Err(Failure::new(exit_code(reply.code), reply.error))
    })
}

/// The name of an exit code as in sysexits(3), in small letters and without `EX_`.
fn name(code: Sysexit) -> &'static str {
    match code {
        Sysexit::Usage => "usage",
        Sysexit::DataErr => "dataerr",
        Sysexit::NoInput => "noinput",
        Sysexit::NoUser => "nouser",
        Sysexit::NoHost => "nohost",
        Sysexit::Unavailable => "unavailable",
        Sysexit::Software => "software",
        Sysexit::OsErr => "oserr",
        Sysexit::CantCreat => "cantcreat",
        Sysexit::NoPerm => "noperm",
        Sysexit::Config => "config",
    }
}

/// The exit code of a number; one that is not known is still a failure.
fn exit_code(code: u8) -> Sysexit {
    use Sysexit::{CantCreat, Config, DataErr, NoHost, NoInput, NoPerm, NoUser, OsErr, Software, Unavailable, Usage};
    let known = [Usage, DataErr, NoInput, NoUser, NoHost, Software, OsErr, CantCreat, NoPerm, Config];
    known.into_iter().find(|known| *known as u8 == code).unwrap_or(Unavailable)
}

/// Sends all of `bytes` over a blocking socket, before `deadline`. Raises no SIGPIPE.
///
/// # Errors
/// The peer has gone, or is too slow.
pub(super) fn send_all(socket: &Socket, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        socket.set_write_timeout(Some(left(deadline)?))?;
        match socket.send_with_flags(bytes, libc::MSG_NOSIGNAL) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The time until `deadline`; more than zero, as that would mean forever to a socket.
pub(super) fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left < Duration::from_millis(1) { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn command(line: &[u8]) -> (Form, Result<String, String>) {
        let (form, command) = decode(line).expect("there is something in it");
        (form, command.map_err(|failure| failure.message))
    }

    #[test]
    fn a_line_is_a_command_or_an_object_with_one() {
        for line in ["servers", "servers\n", " servers\r\n", "\tservers  "] {
            assert_eq!(command(line.as_bytes()), (Form::Text, Ok("servers".to_owned())), "{line:?}");
        }
        for line in [r#"{"command":"server be1 weight 3"}"#, "  { \"command\" : \" server be1\\u0020weight 3 \" }\r\n"]
        {
            assert_eq!(command(line.as_bytes()), (Form::Json, Ok("server be1 weight 3".to_owned())), "{line:?}");
        }
        for blank in ["", "\n", " \r\n", "\t"] {
            assert!(decode(blank.as_bytes()).is_none(), "{blank:?}");
        }
    }

    #[test]
    fn what_is_no_command_is_refused_in_the_form_in_which_it_came() {
        for (line, form, word) in [
            (&b"serv\xffers"[..], Form::Text, "UTF-8"),
            (b"servers\0", Form::Text, "control character"),
            (b"\x1b[2J", Form::Text, "control character"),
            (b"a\rb", Form::Text, "control character"),
            (b"{", Form::Json, "EOF"),
            (b"{\"command\":\"a\\nexit\"}", Form::Json, "control character"),
            (b"{\"command\":\" \"}", Form::Json, "empty"),
            (b"{\"command\":7}", Form::Json, "expected a string"),
            (b"{\"command\":\"servers\",\"x\":1}", Form::Json, "unknown field"),
            (b"{}", Form::Json, "missing field"),
            (b"{\"command\":\"a\"}{\"command\":\"b\"}", Form::Json, "trailing"),
            (b"{\"command\":\"\xff\"}", Form::Json, "unicode"),
        ] {
            let (was, error) = command(line);
            let error = error.expect_err("it is refused");
            assert_eq!(was, form, "{error}");
            assert!(error.contains(word), "{}: {error}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_stack_overflow() {
        let mut line = b"{\"command\":".to_vec();
        line.resize(60_000, b'[');
        assert!(command(&line).1.is_err());
    }

    #[test]
    fn a_reply_is_the_same_behind_the_wire() {
        let replies: [Reply; 4] = [
            Ok(Answer::new("be1 up\nbe2 down\n", json!([{"name": "be1"}, {"name": "be2", "weight": 3}]))),
            Ok(Answer::new("", Value::Null)),
            Ok(Answer::plain("4711\n")),
            Err(Failure::new(Sysexit::NoHost, "be9: no such name;\nwrite an \"address\"")),
        ];
        for reply in replies {
            let line = encode(&reply, Form::Json);
            assert_eq!(line.iter().filter(|&&b| b == b'\n').count(), 1, "one line");
            assert_eq!(decode_reply(&line), Some(reply));
        }
        assert_eq!(decode(&encode_command("explain \"x\"\\")).unwrap().1.unwrap(), "explain \"x\"\\");
    }

    #[test]
    fn text_ends_with_the_end_of_a_line() {
        let text = |reply: Reply| String::from_utf8(encode(&reply, Form::Text)).unwrap();
        assert_eq!(text(Ok(Answer::plain("4711"))), "4711\n");
        assert_eq!(text(Ok(Answer::plain("a\nb\n"))), "a\nb\n");
        assert_eq!(text(Ok(Answer::plain(""))), "");
        assert_eq!(text(Err(Failure::usage("no such command"))), "error: no such command\n");
        let json = String::from_utf8(encode(&Err(Failure::usage("no")), Form::Json)).unwrap();
        assert_eq!(json, "{\"ok\":false,\"error\":\"no\",\"code\":64,\"name\":\"usage\"}\n");
        let json = String::from_utf8(encode(&Ok(Answer::plain("4711\n")), Form::Json)).unwrap();
        assert_eq!(json, "{\"ok\":true,\"result\":\"4711\",\"text\":\"4711\\n\"}\n");
    }

    #[test]
    fn exit_codes_keep_their_number() {
        // EX_USAGE to EX_CONFIG; those that are not used become "unavailable".
        let used = [64, 65, 66, 67, 68, 69, 70, 71, 73, 77, 78];
        for code in 64..=78 {
            assert_eq!(exit_code(code) as u8, if used.contains(&code) { code } else { 69 });
        }
    }

    #[test]
    fn other_programs_replies_are_told_apart() {
        let refused = decode_reply(b"error: too many connections\n").unwrap().unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (Sysexit::Unavailable, "too many connections"));
        for line in [&b"220 mail ESMTP\r\n"[..], b"", b"\xff\xfe", b"[]", b"{\"result\":1}"] {
            assert_eq!(decode_reply(line), None, "{}", String::from_utf8_lossy(line));
        }
    }
}
