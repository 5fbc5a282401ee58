//! Names of interfaces as ioctl(2) takes them.

use std::io;

use libc::{IFNAMSIZ, c_char};

/// The name of an interface: at most 15 bytes and a NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IfName(pub(super) [c_char; IFNAMSIZ]);

impl IfName {
    /// The name `text`.
    ///
    /// # Errors
    /// No interface can be called that: it is empty, too long, or has a NUL in it.
    pub(super) fn new(text: &str) -> io::Result<IfName> {
        let bytes = text.as_bytes();
        if bytes.is_empty() || bytes.len() >= IFNAMSIZ || bytes.contains(&0) {
            let why = format!("{text:?} cannot be an interface's name: it takes 1 to {} bytes", IFNAMSIZ - 1);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let mut name = [0; IFNAMSIZ];
        for (to, from) in name.iter_mut().zip(bytes) {
            *to = *from as c_char;
        }
        Ok(IfName(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_not_fit_are_refused() {
        assert!(IfName::new("").is_err());
        assert!(IfName::new("sixteen-letters-").is_err());
        assert!(IfName::new("a\0b").is_err());
        let longest = IfName::new("fifteen-letters").unwrap();
        assert_eq!(longest.0[14..], [b's' as c_char, 0]);
    }
}
