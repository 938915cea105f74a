//! The registry behind TLS.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, IF_MATCH};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::access::{Access, Policy};
use crate::answer::{self, Answer, Body};
use crate::authority::Authority;
use crate::fault::{Effect, Fault, Faults, Step};
use crate::refusal::Refusal;
use crate::registry::{IfMatch, Registry};
use crate::route::Route;
use crate::twin::TwinChange;
use crate::{bulk, control};

/// Most bytes of a request: a hundred devices with full twins.
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How a registry is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens.
    pub bind: SocketAddr,
    /// Names that its certificate has and its tokens may be for, beside that address. The first is the host of its connection string.
    pub names: Vec<String>,
    /// Most devices.
    pub devices_max: Option<usize>,
    /// How long it takes over each request, as a hub far away does.
    pub answer_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bind: (Ipv4Addr::LOCALHOST, 0).into(),
            names: vec!["localhost".to_owned()],
            devices_max: None,
            answer_after: Duration::ZERO,
        }
    }
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenRequest {
    /// Method and path, such as `PUT /devices/a`.
    pub line: String,
    /// What `If-Match` says.
    pub if_match: Option<String>,
    /// The body; null where there is none.
    pub body: Value,
    /// When it had arrived.
    pub at: Timestamp,
}

/// A running registry; it ends when it is dropped.
pub struct HubRegistry {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

pub(crate) struct Shared {
    /// As connection strings name it.
    host: String,
    hosts: Vec<String>,
    answer_after: Duration,
    pub(crate) access: Mutex<Access>,
    pub(crate) registry: Mutex<Registry>,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) seen: Mutex<Vec<SeenRequest>>,
}

impl Shared {
    pub(crate) fn connection_string_of(&self, policy: Policy) -> String {
        let access = lock(&self.access);
        let key = access.key(policy).expose_base64();
        format!("HostName={};SharedAccessKeyName={};SharedAccessKey={}", self.host, policy.name(), *key)
    }
}

impl HubRegistry {
    /// Starts one whose certificate is of `authority`.
    ///
    /// # Errors
    /// Where it cannot listen there.
    pub async fn start(authority: &Authority, options: Options) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(options.bind).await.with_context(|| options.bind.to_string())?;
        let address = listener.local_addr()?;
        let acceptor = TlsAcceptor::from(authority.tls(address.ip(), &options.names)?);
        let of_port = |host: &str| {
            if address.port() == 443 { host.to_owned() } else { format!("{host}:{}", address.port()) }
        };
        let ip = address.ip().to_string();
        let names: Vec<&str> = options.names.iter().map(String::as_str).chain([ip.as_str()]).collect();
        let shared = Arc::new(Shared {
            answer_after: options.answer_after,
            host: of_port(names[0]),
            hosts: names.iter().flat_map(|name| [(*name).to_owned(), of_port(name)]).collect(),
            access: Mutex::new(Access::new()),
            registry: Mutex::new(Registry::new(options.devices_max)),
            faults: Mutex::default(),
            seen: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, acceptor, Arc::clone(&shared)));
        Ok(Self { address, shared, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Host, and port where it is not 443, as in its connection strings.
    pub fn host(&self) -> &str {
        &self.shared.host
    }

    /// That of the policy which may do everything.
    pub fn connection_string(&self) -> String {
        self.connection_string_of(Policy::IotHubOwner)
    }

    /// That of another policy.
    pub fn connection_string_of(&self, policy: Policy) -> String {
        self.shared.connection_string_of(policy)
    }

    /// Gives a policy another key: connection strings with the old one are refused from now on.
    pub fn renew_key(&self, policy: Policy) {
        lock(&self.shared.access).renew_key(policy);
    }

    /// Looks at the devices, or changes them behind everyone's back.
    pub fn with<T>(&self, look: impl FnOnce(&mut Registry) -> T) -> T {
        look(&mut lock(&self.shared.registry))
    }

    /// Has a step fail.
    pub fn plan(&self, fault: Fault) {
        lock(&self.shared.faults).plan(fault.into());
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        lock(&self.shared.faults).clear();
    }

    /// What was asked, refused requests too.
    pub fn requests(&self) -> Vec<SeenRequest> {
        lock(&self.shared.seen).clone()
    }

    /// How many there were of each kind, by method and collection, such as `POST /devices`.
    pub fn request_counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for SeenRequest { line, .. } in &*lock(&self.shared.seen) {
            // What comes after the second slash is a device's.
            let kind = line.splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
            *counts.entry(kind).or_default() += 1;
        }
        counts
    }
}

impl Drop for HubRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    // It ends with this task, and so does every connection.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(acceptor.clone(), stream, Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, shared: Arc<Shared>) {
    let effect = lock(&shared.faults).next(Step::Connect, "");
    match effect {
        None => {}
        Some(Effect::Stall | Effect::StallAfter) => std::future::pending().await,
        Some(_) => return,
    }
    // Small answers would wait for acknowledgements otherwise.
    let _ = stream.set_nodelay(true);
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(|request| answer(&shared, request));
    // How it ends is for the client to judge.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Answers a request, or fails as planned; an error ends the connection without an answer.
async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, REQUEST_BYTES_MAX).collect().await else {
        return Ok(Answer::from(Refusal::too_large()).response());
    };
    let body = body.to_bytes();
    let json = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&body) };
    let Ok(json) = json else {
        return Ok(Answer::from(Refusal::argument_invalid("The body is no JSON.")).response());
    };
    if let Some(answer) = control::run(&parts.method, parts.uri.path(), &json, shared) {
        return Ok(answer.response());
    }
    let if_match = parts.headers.get(IF_MATCH).and_then(|value| value.to_str().ok());
    let line = format!("{} {}", parts.method, parts.uri.path());
    let at = Timestamp::now();
    lock(&shared.seen).push(SeenRequest {
        line,
        if_match: if_match.map(str::to_owned),
        body: json.clone(),
        at,
    });
    let judged = Route::of(&parts.method, &parts.uri).and_then(|route| {
        let authorization = parts.headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        lock(&shared.access).judge(authorization, &shared.hosts, route.right())?;
        Ok(route)
    });
    let route = match judged {
        Ok(route) => route,
        Err(refusal) => return Ok(Answer::from(refusal).response()),
    };
    let effect = lock(&shared.faults).next(route.step, device_id(&route, &json));
    match effect {
        Some(Effect::Refuse { status, code, retry_after }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let code = Refusal {
                status,
                name: code,
                code: u32::from(status.as_u16()) * 1_000,
                text: "on command".to_owned(),
            };
            return Ok(Answer { retry_after, ..code.into() }.response());
        }
        Some(Effect::Stall) => std::future::pending().await,
        Some(Effect::Cut) => return Err(io::Error::other("cut on command")),
        _ => {}
    }
    if !shared.answer_after.is_zero() {
        sleep(shared.answer_after).await;
    }
    let if_match = if_match.map(IfMatch::parse);
    if let Some(Effect::Late { milliseconds }) = effect {
        // A task of its own, which goes on where the connection ends.
        let shared = Arc::clone(shared);
        let late = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(milliseconds.into())).await;
            done(&mut lock(&shared.registry), &route, if_match.as_ref(), json)
        });
        let answered = late.await.map_err(io::Error::other)?;
        return Ok(answered.unwrap_or_else(Answer::from).response());
    }
    let answered = done(&mut lock(&shared.registry), &route, if_match.as_ref(), json);
    let response = answered.unwrap_or_else(Answer::from).response();
    match effect {
        Some(Effect::StallAfter) => std::future::pending().await,
        Some(Effect::CutAfter) => Err(io::Error::other("cut on command")),
        Some(Effect::CutMidway) => Ok(answer::half(response).await),
        Some(Effect::Garble) => Ok(answer::page()),
        _ => Ok(response),
    }
}

/// The device that is asked for; of a bulk request the first.
fn device_id<'r>(route: &'r Route, body: &'r Value) -> &'r str {
    match route.step {
        Step::Bulk => body[0]["id"].as_str().unwrap_or_default(),
        _ => &route.device_id,
    }
}

/// Does what is asked.
fn done(
    registry: &mut Registry,
    route: &Route,
    if_match: Option<&IfMatch>,
    body: Value,
) -> Result<Answer, Refusal> {
    let id = &*route.device_id;
    let object = |body: Value| match body {
        Value::Object(object) => Ok(object),
        _ => Err(Refusal::argument_invalid("The body is no object.")),
    };
    let any = if_match.unwrap_or(&IfMatch::Any);
    match route.step {
        Step::Bulk => {
            let (result, is_successful) = bulk::run(registry, body)?;
            let status = if is_successful { StatusCode::OK } else { StatusCode::BAD_REQUEST };
            return Ok(Answer::json(status, result));
        }
        Step::WriteIdentity => registry.put(id, if_match, object(body)?)?,
        Step::DeleteIdentity => {
            let if_match = if_match.ok_or_else(|| Refusal::argument_invalid("If-Match is missing."))?;
            registry.delete(id, if_match)?;
            return Ok(Answer::empty());
        }
        Step::ReplaceTwin => registry.replace_twin(id, any, twin_change(object(body)?)?)?,
        Step::MergeTwin => registry.merge_twin(id, any, twin_change(object(body)?)?)?,
        Step::ReadIdentity | Step::ReadTwin | Step::Connect => {}
    }
    let body = match route.step {
        Step::ReadIdentity | Step::WriteIdentity => registry.identity(id)?,
        _ => registry.twin(id)?,
    };
    Ok(Answer::json(StatusCode::OK, body))
}

/// Clients send whole twins back; what of them only the hub writes has no effect.
fn twin_change(mut body: Map<String, Value>) -> Result<TwinChange, Refusal> {
    const WRITTEN_BY_THE_HUB: [&str; 14] = [
        "deviceId",
        "etag",
        "deviceEtag",
        "version",
        "status",
        "statusReason",
        "statusUpdateTime",
        "connectionState",
        "lastActivityTime",
        "cloudToDeviceMessageCount",
        "authenticationType",
        "x509Thumbprint",
        "modelId",
        "capabilities",
    ];
    let change = TwinChange::take(&mut body)?;
    WRITTEN_BY_THE_HUB.iter().for_each(|member| drop(body.shift_remove(*member)));
    match body.keys().next() {
        None => Ok(change),
        Some(member) => Err(Refusal::argument_invalid(format!("Unknown member {member}."))),
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
