//! One request at a time and its response: who may send, what may be sent again, and which connections outlive it.

use super::refusal::Refusal;
use super::request::{RequestHead, RequestReader};
use super::response::{Asked, ResponseHead, ResponseReader, Toward};
use super::rewrite::Rewrite;
use super::{Limits, Step};

/// How far the request is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sent {
    /// There is none.
    #[default]
    Nothing,
    /// Its head was read, its body was not, or not all of it.
    Head,
    /// All of it.
    All,
}

/// How far the response is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Answered {
    /// There is none, or only such as another one follows.
    #[default]
    Nothing,
    /// Its head was read.
    Head,
    /// All of it.
    All,
    /// Both sides speak another protocol.
    Tunnel,
}

/// The requests and responses of one client connection. A request's server may be another one each time.
///
/// ```text
/// bytes of the client -> from_client -> Head: write_request; Body: as they are; End: -- Hold until the response's end
/// bytes of the server -> from_server -> Head: write_response; Body: as they are; End: finish() says what becomes of both
/// ```
#[derive(Debug, Default)]
pub struct Exchange {
    request: RequestReader,
    response: ResponseReader,
    sent: Sent,
    answered: Answered,
    /// Will the client's connection be closed behind this response?
    close: bool,
}

/// What becomes of the connections once a response has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finish {
    /// The client's.
    pub client: ClientNext,
    /// May the server's be used for another request? Else it has to be closed.
    pub reuse: bool,
}

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientNext {
    /// The next request is read.
    Keep,
    /// It is closed, once everything is written.
    Close,
    /// As [`Close`](ClientNext::Close), but the client is still sending: after everything is written it is told that no
    /// more comes (`shutdown`), and what it sends is dropped for a while, because closing at once would have the system
    /// reset the connection, and the client lose the response (RFC 9112 section 9.6).
    Linger,
}

/// What it means that the server closed its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerClosed {
    /// Nothing: it was asked for nothing.
    Idle,
    /// The request is sent again, to whichever server, over a new connection.
    Retry,
    /// The client gets this instead of a response.
    Refuse(Refusal),
    /// The response is complete: [`Exchange::finish`].
    Complete,
    /// The response is cut off in its middle: the client's connection is reset, so that it notices.
    Truncated,
    /// Of a tunnel: no more comes from there, and the client is told so.
    HalfClosed,
}

/// What it means that the client sends no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientClosed {
    /// It ended between two requests: its connection is closed.
    Idle,
    /// In the middle of a request: both connections are closed.
    Abort,
    /// It has asked, and waits for the response: that goes on, then its connection is closed.
    Waits,
    /// Of a tunnel: the server is told so.
    HalfClosed,
}

impl Exchange {
    /// Of a new client connection.
    pub fn new() -> Exchange {
        Exchange::default()
    }

    /// The request's head, from its [`Step::Head`] to that of the next one.
    pub fn request(&self) -> &RequestHead {
        self.request.head()
    }

    /// The response's head, from its [`Step::Head`] to that of the next one.
    pub fn response(&self) -> &ResponseHead {
        self.response.head()
    }

    /// Is nothing going on: neither a request nor a response?
    pub fn is_idle(&self) -> bool {
        self.sent == Sent::Nothing
    }

    /// Has all of the request come, so that it is for the server to speak?
    pub fn is_asked(&self) -> bool {
        self.sent == Sent::All
    }

    /// Do both sides speak another protocol by now?
    pub fn is_tunnel(&self) -> bool {
        self.answered == Answered::Tunnel
    }

    /// Can a client still be told that it is refused? Not when a part of another response may have gone.
    pub fn can_refuse(&self) -> bool {
        self.answered == Answered::Nothing
    }

    /// Does the request have to be kept, in case that it has to be sent again? Only as long as the server has said nothing.
    pub fn repeatable(&self) -> bool {
        self.sent == Sent::All && !self.response.begun() && self.request.head().repeatable()
    }

    /// The client's connection is to be closed behind the current response, or the next one.
    pub fn close_after(&mut self) {
        self.close = true;
    }

    /// What `input`, all that the client sent and was not yet consumed, begins with.
    pub fn from_client(&mut self, input: &[u8], limits: &Limits) -> Result<Step, Refusal> {
        match (self.sent, self.answered) {
            // Whatever it still sends of a request that has been answered leads nowhere.
            (Sent::Head, Answered::All) if input.is_empty() => Ok(Step::More),
            (Sent::Head, Answered::All) => Ok(Step::Skip { raw: input.len() }),
            (Sent::All, Answered::Nothing | Answered::Head | Answered::All) => Ok(Step::Hold),
            _ => {
                let step = self.request.next(input, limits)?;
                match step {
                    Step::Head { .. } => {
                        self.sent = Sent::Head;
                        self.response.expect(Asked::by(self.request.head()));
                    }
                    Step::End => self.sent = Sent::All,
                    _ => {}
                }
                Ok(step)
            }
        }
    }

    /// The head for the server, appended to `out`; `head` is what [`Step::Head`] of the client told of.
    pub fn write_request(&self, head: &[u8], rewrite: &Rewrite<'_>, out: &mut Vec<u8>) {
        self.request.write_head(head, rewrite, out);
    }

    /// What `input`, all that the server sent and was not yet consumed, begins with. After an error, the client gets a
    /// refusal if it [can](Exchange::can_refuse), or else its connection is reset; the server's is closed.
    pub fn from_server(&mut self, input: &[u8], limits: &Limits) -> Result<Step, Refusal> {
        if self.sent == Sent::Nothing && !input.is_empty() {
            return Err(Refusal::bad_response("the server sent what nobody asked for"));
        }
        let step = self.response.next(input, limits)?;
        match step {
            Step::Head { .. } if self.response.head().status == 101 => {
                self.answered = Answered::Tunnel;
                self.request.tunnel();
            }
            Step::Head { .. } if !self.response.head().interim() => {
                self.answered = Answered::Head;
                // Who answers before the request's end may not want the rest of it.
                self.close |= !self.request.head().keep_alive || !self.response.delimited() || self.sent != Sent::All;
            }
            Step::End => self.answered = Answered::All,
            _ => {}
        }
        Ok(step)
    }

    /// The head for the client, appended to `out`; `head` is what [`Step::Head`] of the server told of.
    pub fn write_response(&self, head: &[u8], out: &mut Vec<u8>) {
        let toward = Toward { close: self.close, keep_alive: self.request.head().http10 };
        self.response.write_head(head, &toward, out);
    }

    /// What becomes of the connections, after [`Step::End`] of the server or [`ServerClosed::Complete`]. `unread`: are there
    /// bytes of the client that were not consumed? If the client's stays, the next request can be read.
    pub fn finish(&mut self, unread: bool) -> Finish {
        let client = match (self.sent, self.close) {
            (Sent::All, false) => ClientNext::Keep,
            (Sent::All, true) if !unread => ClientNext::Close,
            _ => ClientNext::Linger,
        };
        let reuse = self.sent == Sent::All && self.response.head().keep_alive;
        if client == ClientNext::Keep {
            self.sent = Sent::Nothing;
            self.answered = Answered::Nothing;
        }
        Finish { client, reuse }
    }

    /// The server closed or reset its connection, and all it had sent was consumed as far as it could be. `reused`: was the
    /// connection one that had served earlier requests, so that the server may have closed it before it saw this one?
    pub fn server_closed(&mut self, reused: bool) -> ServerClosed {
        match (self.sent, self.answered) {
            (_, Answered::Tunnel) => ServerClosed::HalfClosed,
            (Sent::Nothing, _) | (_, Answered::All) => ServerClosed::Idle,
            (_, Answered::Head) if self.response.ends_with_connection() => {
                self.answered = Answered::All;
                ServerClosed::Complete
            }
            (_, Answered::Head) => ServerClosed::Truncated,
            (_, Answered::Nothing) if reused && self.repeatable() => ServerClosed::Retry,
            (_, Answered::Nothing) => {
                ServerClosed::Refuse(Refusal::bad_response("the server closed its connection without an answer"))
            }
        }
    }

    /// The client sends no more, and all it had sent was consumed as far as it could be.
    pub fn client_closed(&mut self) -> ClientClosed {
        match (self.sent, self.answered) {
            (_, Answered::Tunnel) => ClientClosed::HalfClosed,
            (Sent::Nothing, _) => ClientClosed::Idle,
            (Sent::Head, Answered::All) => ClientClosed::Idle,
            (Sent::Head, _) => ClientClosed::Abort,
            (Sent::All, _) => {
                self.close = true;
                ClientClosed::Waits
            }
        }
    }
}
