//! etcd from Debian's `etcd-server`: members on loopback, and durable puts over its gRPC.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use cluster_e2e::measure::{self, Latencies};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// As many as one event of the other benchmarks has as text.
pub const VALUE_BYTES: usize = 100;

/// Keys that are written over and over.
const KEYS: usize = 1_000;

const READY_WAIT_MAX: Duration = Duration::from_secs(30);

/// Its members, killed when dropped.
pub struct Etcd {
    members: Vec<Child>,
    endpoints: Vec<String>,
    _scratch: tempfile::TempDir,
}

impl Etcd {
    /// Starts so many members and waits until they take writes.
    pub async fn start(members: usize) -> Result<Etcd> {
        let scratch = tempfile::Builder::new().prefix("alluvium-etcd-").tempdir()?;
        let bound = (0..2 * members).map(|_| TcpListener::bind("127.0.0.1:0"));
        let bound = bound.collect::<Result<Vec<_>, _>>()?;
        let url = |socket: &TcpListener| Ok(format!("http://{}", socket.local_addr()?));
        let urls = bound.iter().map(url).collect::<Result<Vec<String>>>()?;
        drop(bound);
        let (clients, peers) = urls.split_at(members);
        let all = peers.iter().enumerate().map(|(number, peer)| format!("m{number}={peer}"));
        let all = all.collect::<Vec<_>>().join(",");
        let mut etcd = Etcd { members: Vec::new(), endpoints: clients.to_vec(), _scratch: scratch };
        for (number, (client, peer)) in clients.iter().zip(peers).enumerate() {
            let name = format!("m{number}");
            let mut command = Command::new("etcd");
            command.args(["--name", &name, "--data-dir"]).arg(etcd._scratch.path().join(&name));
            command.args(["--listen-client-urls", client, "--advertise-client-urls", client]);
            command.args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]);
            command.args(["--initial-cluster", &all, "--initial-cluster-state", "new"]);
            command.args(["--log-level", "error"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let child = command.kill_on_drop(true).spawn();
            etcd.members.push(child.context("start etcd (Debian's etcd-server)")?);
        }
        etcd.wait_ready().await?;
        Ok(etcd)
    }

    async fn wait_ready(&self) -> Result<()> {
        let deadline = Instant::now() + READY_WAIT_MAX;
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        for endpoint in &self.endpoints {
            while let Err(error) = try_put(endpoint).await {
                if deadline < Instant::now() {
                    return Err(error.context("etcd does not take writes"));
                }
                ticks.tick().await;
            }
        }
        Ok(())
    }

    /// CPU seconds of all members.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let pids = self.members.iter().map(|member| member.id().context("a member has ended"));
        pids.map(|pid| measure::cpu_seconds(pid?)).sum()
    }

    /// Puts from callers that each wait for one answer at a time, spread over the members.
    pub async fn puts(
        &self,
        callers: usize,
        connections: usize,
        length: Duration,
    ) -> Result<Latencies> {
        let mut channels = Vec::new();
        for number in 0..connections {
            let endpoint = &self.endpoints[number % self.endpoints.len()];
            channels.push(connect(endpoint).await?);
        }
        let end = Instant::now() + length;
        let mut tasks = JoinSet::new();
        for caller in 0..callers {
            tasks.spawn(put_until(channels[caller % connections].clone(), caller, end));
        }
        let mut latencies = Latencies::default();
        while let Some(done) = tasks.join_next().await {
            latencies.append(done??);
        }
        Ok(latencies)
    }
}

async fn connect(endpoint: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(endpoint.to_owned())?.tcp_nodelay(true);
    Ok(endpoint.connect().await?)
}

async fn try_put(endpoint: &str) -> Result<()> {
    let channel = connect(endpoint).await?;
    let put = put(&channel, 0);
    match tokio::time::timeout(Duration::from_secs(2), put).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(status)) => Err(status.into()),
        Err(_) => bail!("no answer"),
    }
}

async fn put_until(channel: Channel, caller: usize, end: Instant) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    let mut place = caller * 37;
    while Instant::now() < end {
        let sent_at = Instant::now();
        put(&channel, place).await?;
        latencies.add(sent_at.elapsed());
        place += 1;
    }
    Ok(latencies)
}

async fn put(channel: &Channel, place: usize) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
    let request = put_request(&format!("k{}", place % KEYS), &[b'x'; VALUE_BYTES]);
    grpc.unary(Request::new(request), path, Raw).await?;
    Ok(())
}

/// `PutRequest { bytes key = 1; bytes value = 2; }`, both shorter than 128 bytes.
fn put_request(key: &str, value: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(key.len() + value.len() + 4);
    for (tag, bytes) in [(0x0a, key.as_bytes()), (0x12, value)] {
        message.put_u8(tag);
        message.put_u8(u8::try_from(bytes.len()).expect("shorter than 128 bytes"));
        message.put_slice(bytes);
    }
    message.freeze()
}

/// Messages as they are; answers are not looked at.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = ();
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        src.advance(src.remaining());
        Ok(Some(()))
    }
}
