//! What the heads of requests and responses have in common: where they end, and what is taken out of them.

use httparse::Header;

/// Most header fields in a head.
pub(super) const FIELDS: usize = 128;

/// A range of bytes, counted from the beginning of the head that it is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub(super) const NONE: Span = Span { start: 0, end: 0 };

    /// Those of `head`.
    #[inline]
    pub fn of(self, head: &[u8]) -> &[u8] {
        head.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Is there nothing?
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Where `part` is in `head`, of which it is a part.
    #[inline]
    pub(super) fn within(head: &[u8], part: &[u8]) -> Span {
        let start = offset(head, part);
        Span { start: start as u32, end: (start + part.len()) as u32 }
    }
}

/// How far behind the beginning of `head` its part `part` begins, bytes.
#[inline]
pub(super) fn offset(head: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize - head.as_ptr() as usize
}

/// What is done with a field line when the head is written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// It is left out.
    Out,
    /// It tells the client's address, in one of these ways; what becomes of it is a setting.
    XForwardedFor,
    XForwardedProto,
    Forwarded,
}

/// A field line that does not simply pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Where its name begins.
    pub start: u32,
    /// Behind its value, without white space at its end; 0: the value is empty.
    pub value_end: u32,
    /// Behind its line end.
    pub end: u32,
    pub what: What,
}

/// The field lines of a head, as ranges: httparse has found names and values, and between them we look for what it lets
/// pass and others may not.
pub(super) struct Lines<'a, 'h> {
    head: &'a [u8],
    headers: &'h [Header<'a>],
}

impl<'a, 'h> Lines<'a, 'h> {
    /// Of a complete head. None: a line ends without CR (RFC 9112 section 2.2 lets a recipient take that for a line end,
    /// so that two recipients may see different lines).
    #[inline]
    pub(super) fn new(head: &'a [u8], headers: &'h [Header<'a>]) -> Option<Lines<'a, 'h>> {
        let ends_well = |behind: usize| head[..behind].ends_with(b"\r\n");
        let inner = headers.iter().all(|header| ends_well(offset(head, header.name.as_bytes())));
        // The last two: that of the last field, and the empty line.
        (inner && head.ends_with(b"\r\n\r\n")).then_some(Lines { head, headers })
    }

    /// Where the first field line begins.
    #[inline]
    pub(super) fn start(&self) -> usize {
        match self.headers.first() {
            Some(first) => offset(self.head, first.name.as_bytes()),
            None => self.head.len() - 2,
        }
    }

    /// The line of field number `index`, to be treated as `what`.
    pub(super) fn mark(&self, index: usize, what: What) -> Mark {
        let header = &self.headers[index];
        let end = match self.headers.get(index + 1) {
            Some(next) => offset(self.head, next.name.as_bytes()),
            None => self.head.len() - 2,
        };
        let value_end = if header.value.is_empty() { 0 } else { Span::within(self.head, header.value).end };
        Mark { start: offset(self.head, header.name.as_bytes()) as u32, value_end, end: end as u32, what }
    }

    /// Is there a tab in the line of field number `index`? Not all servers skip tabs, so a field that frames the message
    /// must have none, before or behind its value.
    pub(super) fn has_tab(&self, index: usize) -> bool {
        let mark = self.mark(index, What::Out);
        self.head[mark.start as usize..mark.end as usize].contains(&b'\t')
    }
}
