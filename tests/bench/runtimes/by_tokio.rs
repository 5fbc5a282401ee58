//! The relay by tokio, as its documentation would have one write it: a task for each connection.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::relay::cpu_time;

/// Bytes of each of the two buffers of a connection in `copy_bidirectional`.
pub const BUFFER: usize = 8 << 10;

/// Carries between those who connect to `listener` and `server`, and answers `asked`, until that ends. All three do not
/// block.
///
/// # Errors
/// The runtime cannot be made.
pub fn run(
    listener: std::net::TcpListener,
    server: SocketAddr,
    asked: std::os::unix::net::UnixStream,
    buffer: usize,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async move {
        tokio::spawn(serve(TcpListener::from_std(listener)?, server, buffer));
        let mut asked = UnixStream::from_std(asked)?;
        while asked.read(&mut [0]).await? > 0 {
            asked.write_all(&cpu_time()?).await?;
        }
        Ok(())
    })
}

async fn serve(listener: TcpListener, server: SocketAddr, buffer: usize) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(carry(client, server, buffer));
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, buffer: usize) {
    if let Ok(mut server) = TcpStream::connect(server).await {
        // One that breaks is no more than over: those at its ends see that themselves.
        let _ = copy_bidirectional_with_sizes(&mut client, &mut server, buffer, buffer).await;
    }
}
