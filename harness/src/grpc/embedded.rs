//! A controller served to its own process, over memory: no port, nobody else can reach it.

use firedrill_proto::firedrill::v1::controller_client::ControllerClient;
use tokio::{io::DuplexStream, sync::mpsc, task::JoinHandle};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::transport::{Channel, Endpoint, Uri};

use super::server::{ServeError, router};
use crate::controller::Controller;

/// Bytes that wait in either direction of the in-memory connection.
const PIPE_BYTES: usize = 1 << 20;

/// Serves `controller` in this process and returns a client of it, with the task that serves.
///
/// # Errors
/// When gRPC can't be set up.
pub async fn embed(
    controller: Controller,
) -> Result<
    (
        ControllerClient<Channel>,
        JoinHandle<Result<(), tonic::transport::Error>>,
    ),
    ServeError,
> {
    let (dial, accept) = mpsc::channel::<DuplexStream>(4);
    let incoming = ReceiverStream::new(accept).map(Ok::<_, std::io::Error>);
    let served = tokio::spawn(router(controller).await?.serve_with_incoming(incoming));
    // The address is never resolved: the connector hands out the other end of a pipe.
    let channel = Endpoint::from_static("http://embedded.invalid")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let dial = dial.clone();
            async move {
                let (here, there) = tokio::io::duplex(PIPE_BYTES);
                let gone = |_| std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "the controller has ended");
                dial.send(there).await.map_err(gone)?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(here))
            }
        }))
        .await?;
    Ok((
        ControllerClient::new(channel).max_decoding_message_size(64 << 20),
        served,
    ))
}
