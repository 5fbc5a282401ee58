//! Ends of the program: a message for the operator and an exit code after sysexits(3).

use std::fmt;
use std::process::ExitCode;

/// Exit codes of sysexits(3), as far as they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Sysexit {
    /// EX_USAGE: the command line is wrong.
    Usage = 64,
    /// EX_DATAERR: an input file is not what it should be.
    DataErr = 65,
    /// EX_NOINPUT: an input file cannot be read.
    NoInput = 66,
    /// EX_NOUSER: no such user.
    NoUser = 67,
    /// EX_NOHOST: a name that does not resolve.
    NoHost = 68,
    /// EX_UNAVAILABLE: no such interface.
    Unavailable = 69,
    /// EX_SOFTWARE: a fault in the program.
    Software = 70,
    /// EX_OSERR: the system refused something that it should not have.
    OsErr = 71,
    /// EX_CANTCREAT: a file cannot be created.
    CantCreat = 73,
    /// EX_NOPERM: not permitted.
    NoPerm = 77,
    /// EX_CONFIG: the configuration contradicts itself or what is there.
    Config = 78,
}

/// Why the program cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How it exits.
    pub code: Sysexit,
    /// What was asked, what happened, what to do.
    pub message: String,
}

impl Failure {
    /// A failure with its code.
    pub fn new(code: Sysexit, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into() }
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Sysexit::Usage, message)
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
