//! The PostgreSQL port: taken, and answered with a clear refusal.
//!
//! This version does not speak the PostgreSQL protocol. A client that tries is told so in its own
//! protocol, where a closed port would leave its user guessing.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Asks for TLS before the start-up message.
const SSL_REQUEST: u32 = 80_877_103;
/// Asks for GSSAPI encryption before the start-up message.
const GSS_REQUEST: u32 = 80_877_104;

/// A start-up message is a few names and values.
const STARTUP_BYTES_MAX: u32 = 10_000;

/// A client that says nothing for this long is let go.
const SILENCE_MAX: Duration = Duration::from_secs(10);

const REFUSAL: &str = "this version of Alluvium does not speak the PostgreSQL protocol; \
                       use `alluvium sql` or the gRPC interface";

/// Refuses clients on `listener` until `stop` is done.
pub async fn serve(listener: TcpListener, stop: impl Future<Output = ()>) -> io::Result<()> {
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            accepted = listener.accept() => {
                // A connection that failed before it was accepted concerns nobody else.
                if let Ok((stream, _)) = accepted {
                    tokio::spawn(async move {
                        // A client that leaves early has its answer.
                        let _ = tokio::time::timeout(SILENCE_MAX, refuse(stream)).await;
                    });
                }
            }
        }
    }
}

async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    loop {
        let byte_count = stream.read_u32().await?;
        if !(8..=STARTUP_BYTES_MAX).contains(&byte_count) {
            return Ok(());
        }
        let kind = stream.read_u32().await?;
        let mut rest = vec![0; byte_count as usize - 8];
        stream.read_exact(&mut rest).await?;
        match kind {
            // Neither is offered; the client goes on without or leaves.
            SSL_REQUEST | GSS_REQUEST => stream.write_all(b"N").await?,
            _ => break,
        }
    }
    stream.write_all(&error_response()).await?;
    stream.shutdown().await
}

/// An ErrorResponse: severity, SQLSTATE "feature not supported", message.
fn error_response() -> Vec<u8> {
    let mut fields = Vec::new();
    for (field, value) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', "0A000"), (b'M', REFUSAL)] {
        fields.push(field);
        fields.extend_from_slice(value.as_bytes());
        fields.push(0);
    }
    fields.push(0);
    let byte_count = u32::try_from(fields.len() + 4).expect("the refusal is short");
    let mut message = vec![b'E'];
    message.extend_from_slice(&byte_count.to_be_bytes());
    message.extend_from_slice(&fields);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_is_told_in_its_own_protocol() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, async { stopped.await.unwrap_or(()) }));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'N');
        client.write_all(&[0, 0, 0, 8, 0, 3, 0, 0]).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer[0], b'E');
        assert!(String::from_utf8_lossy(&answer).contains("0A000"));
        stop.send(()).unwrap();
        served.await.unwrap().unwrap();
    }
}
