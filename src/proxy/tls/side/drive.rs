//! rustls's unbuffered interface, driven: from state to state until there is nothing more to be done with the bytes that
//! are there.

use std::ops::Deref;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedConnectionCommon, UnbufferedStatus,
};
use rustls::{CommonState, Error};

/// Either end of a connection.
pub(super) enum Endpoint {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// What is to be done once records can be sent.
pub(super) enum Send<'a> {
    Nothing,
    /// Encrypt the first into the second.
    Traffic(&'a [u8], &'a mut [u8]),
    /// Put a close_notify into it.
    Close(&'a mut [u8]),
}

/// Where plaintext goes: into the caller's buffer, and what does not fit behind it.
pub(super) struct Plain<'a> {
    pub into: &'a mut [u8],
    pub filled: usize,
    pub rest: &'a mut Vec<u8>,
}

/// How far it went.
pub(super) struct Progress {
    /// So much of the incoming bytes is done with.
    pub consumed: usize,
    /// The peer has ended its direction.
    pub closed: bool,
    /// Bytes that were put where [`Send`] says; `None` where nothing can be sent yet, or any more.
    pub sent: Option<Result<usize, EncryptError>>,
    /// The connection has failed.
    pub failure: Option<Error>,
}

impl Endpoint {
    pub(super) fn common(&self) -> &CommonState {
        match self {
            Endpoint::Server(connection) => connection,
            Endpoint::Client(connection) => connection,
        }
    }

    /// Goes through the records of `incoming`, and then does what is to be sent. What has to be answered is appended to
    /// `answers`, and has to go out before that; after a failure it is an alert.
    pub(super) fn advance(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Plain<'_>,
        answers: &mut Vec<u8>,
        send: Send<'_>,
    ) -> Progress {
        match self {
            Endpoint::Server(connection) => advance(&mut ***connection, incoming, plain, answers, send),
            Endpoint::Client(connection) => advance(&mut ***connection, incoming, plain, answers, send),
        }
    }
}

impl Plain<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let fits = bytes.len().min(self.into.len() - self.filled);
        self.into[self.filled..self.filled + fits].copy_from_slice(&bytes[..fits]);
        self.filled += fits;
        if fits < bytes.len() {
            self.rest.extend_from_slice(&bytes[fits..]);
        }
    }
}

/// The same method of both kinds of connections, which rustls defines for each of them.
trait Records: Deref<Target = CommonState> {
    type Data;

    fn records<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Records for UnbufferedConnectionCommon<ServerConnectionData> {
    type Data = ServerConnectionData;

    fn records<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.process_tls_records(incoming)
    }
}

impl Records for UnbufferedConnectionCommon<ClientConnectionData> {
    type Data = ClientConnectionData;

    fn records<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.process_tls_records(incoming)
    }
}

fn advance<C: Records>(
    connection: &mut C,
    incoming: &mut [u8],
    plain: &mut Plain<'_>,
    answers: &mut Vec<u8>,
    send: Send<'_>,
) -> Progress {
    let mut progress = Progress { consumed: 0, closed: false, sent: None, failure: None };
    loop {
        let UnbufferedStatus { mut discard, state } = connection.records(&mut incoming[progress.consumed..]);
        let mut over = false;
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            discard += record.discard;
                            plain.put(record.payload);
                        }
                        Err(error) => progress.failure = Some(error),
                    }
                }
                over = progress.failure.is_some();
            }
            Ok(ConnectionState::EncodeTlsData(answer)) => over = !encode(answer, answers),
            // It is on its way: whoever appended it to `answers` sends that before anything else.
            Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
            Ok(ConnectionState::PeerClosed) => progress.closed = true,
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                progress.sent = match send {
                    Send::Nothing => None,
                    Send::Traffic(bytes, outgoing) => Some(traffic.encrypt(bytes, outgoing)),
                    Send::Close(outgoing) => Some(traffic.queue_close_notify(outgoing)),
                };
                progress.consumed += discard;
                return progress;
            }
            // Waiting for the peer, or closed by both. Early data is not offered, so there is none.
            Ok(_) => over = true,
            Err(error) => {
                progress.failure = Some(error);
                over = true;
            }
        }
        progress.consumed += discard;
        if over {
            if progress.failure.is_some() {
                last_words(connection, &mut incoming[progress.consumed..], answers);
            }
            return progress;
        }
    }
}

/// Appends the alert that tells the peer why the connection has failed. rustls gives out what is ready before it looks at
/// `incoming`; it must not be asked for more, as it would go on there.
fn last_words<C: Records>(connection: &mut C, incoming: &mut [u8], answers: &mut Vec<u8>) {
    while connection.wants_write() {
        let said = match connection.records(incoming).state {
            Ok(ConnectionState::EncodeTlsData(answer)) => encode(answer, answers),
            _ => false,
        };
        if !said {
            return;
        }
    }
}

/// Appends a record that rustls has ready; was there one?
fn encode<D>(mut answer: EncodeTlsData<'_, D>, answers: &mut Vec<u8>) -> bool {
    let start = answers.len();
    let Err(EncodeError::InsufficientSize(needed)) = answer.encode(&mut []) else {
        return false;
    };
    answers.resize(start + needed.required_size, 0);
    let length = answer.encode(&mut answers[start..]).unwrap_or(0);
    answers.truncate(start + length);
    length > 0
}
