//! Certificates over a reload: whoever asks for it hears what became of them.

use std::fs;
use std::net::TcpStream;

use crate::harness::{free_address, patient, serve};
use crate::program::{Program, by_tls, certificate, listen, server};
use crate::scratch::Scratch;

#[test]
fn a_reload_says_whether_they_were_taken() {
    let scratch = Scratch::new("certificates");
    let (tls, old) = certificate(&scratch.0);
    let (backend, _) = serve(|_| {});
    let address = free_address();
    let program = Program::start(&scratch, &format!("{}{}", server("be", backend), listen(address.to_string(), &tls)));
    let shows = |made| {
        let stream = TcpStream::connect(address).unwrap();
        patient(&stream);
        let mut client = by_tls(stream, made);
        client.conn.complete_io(&mut client.sock).is_ok()
    };
    assert!(shows(&old));
    fs::write(scratch.0.join("site.pem"), "nonsense").unwrap();
    let answer = program.try_ctl("reload").expect_err("it is not content");
    assert!(answer.contains("those from before still count") && answer.contains("site.pem"), "{answer}");
    assert!(shows(&old));
    let (_, new) = certificate(&scratch.0);
    let answer = program.ctl("reload");
    assert_eq!(answer, "nothing has changed\ncertificates have been read again\n");
    assert!(shows(&new) && !shows(&old));
}
