//! gobgpd by its gRPC, versions 3 and 4: announce, read back from what peers are sent, withdraw, list.

mod proto;
pub mod route;

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use prost::Message;
use schemas::net::Prefix;
use tonic::transport::{Channel, Endpoint};

use self::proto::{
    AddPathRequest, AddPathResponse, DeletePathRequest, Destination, ESTABLISHED, Empty, ListPathRequest, ListPathResponse,
    ListPeerRequest, ListPeerResponse, TABLE_ADJ_OUT, TABLE_GLOBAL, TableLookupPrefix,
};
use self::route::{Attributes, Dialect};
use super::{Adapter, AdapterError, Answer, Carried};
use crate::config;
use crate::mitigate::guard::GuardedRule;

/// Established peers that are asked for a route; one that has it is enough.
const PEERS_ASKED_MAX: usize = 8;
/// Entries of one listing that are read.
const ENTRIES_MAX: usize = 2_000_000;

/// How long the listing of a whole table may take: a million routes are some seconds.
const WHOLE_TABLE: Duration = Duration::from_secs(60);

/// A gobgpd. One HTTP/2 connection is kept open and made anew when it breaks.
#[derive(Debug)]
pub struct Gobgp {
    endpoint: String,
    channel: Channel,
    attributes: Attributes,
    deadline: Duration,
    /// 0 not known yet, 3 or 4.
    version: AtomicU8,
}

impl Gobgp {
    /// An adapter that connects when it is first used; must be made within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`AdapterError::Setting`] if a setting makes no sense.
    pub fn new(settings: &config::Gobgp) -> Result<Self, AdapterError> {
        let attributes = Attributes::of(settings)?;
        let deadline = Duration::from_millis(settings.deadline_milliseconds.max(1));
        let endpoint = Endpoint::from_shared(settings.endpoint.clone())
            .map_err(|error| AdapterError::Setting {
                key: "endpoint",
                value: error.to_string(),
                wanted: "an address like http://127.0.0.1:50051",
            })?
            .connect_timeout(deadline)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_while_idle(true);
        let channel = endpoint.connect_lazy();
        Ok(Self { endpoint: settings.endpoint.clone(), channel, attributes, deadline, version: AtomicU8::new(0) })
    }

    /// Which of its two protocols the speaker has: found out by asking, once.
    async fn dialect(&self) -> Result<Dialect, AdapterError> {
        match self.version.load(Ordering::Relaxed) {
            3 => return Ok(Dialect::V3),
            4 => return Ok(Dialect::V4),
            _ => {}
        }
        for (dialect, version) in [(Dialect::V3, 3), (Dialect::V4, 4)] {
            match self.unary::<_, Empty>(dialect, "GetBgp", Empty {}).await {
                Ok(_) => {
                    self.version.store(version, Ordering::Relaxed);
                    return Ok(dialect);
                }
                Err(AdapterError::UnsupportedVersion { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(AdapterError::UnsupportedVersion { endpoint: self.endpoint.clone() })
    }

    async fn unary<Q, R>(&self, dialect: Dialect, method: &str, request: Q) -> Result<R, AdapterError>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        let call = async {
            client.ready().await.map_err(|error| self.unreachable(&error))?;
            let codec = tonic_prost::ProstCodec::<Q, R>::default();
            let answer = client.unary(tonic::Request::new(request), path_of(dialect, method)?, codec).await;
            answer.map(tonic::Response::into_inner).map_err(|status| self.failed(&status))
        };
        tokio::time::timeout(self.deadline, call).await.map_err(|_| late(self.deadline))?
    }

    /// A listing: every answer of the stream.
    async fn stream<Q, R>(&self, dialect: Dialect, method: &str, request: Q, deadline: Duration) -> Result<Vec<R>, AdapterError>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        let call = async {
            client.ready().await.map_err(|error| self.unreachable(&error))?;
            let codec = tonic_prost::ProstCodec::<Q, R>::default();
            let answer = client.server_streaming(tonic::Request::new(request), path_of(dialect, method)?, codec).await;
            let mut stream = answer.map_err(|status| self.failed(&status))?.into_inner();
            let mut answers = Vec::new();
            while let Some(answer) = stream.message().await.map_err(|status| self.failed(&status))? {
                answers.push(answer);
                if answers.len() >= ENTRIES_MAX {
                    break;
                }
            }
            Ok(answers)
        };
        tokio::time::timeout(deadline, call).await.map_err(|_| late(deadline))?
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> AdapterError {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            reason = inner.to_string();
            source = inner.source();
        }
        AdapterError::Unreachable { endpoint: self.endpoint.clone(), reason }
    }

    fn failed(&self, status: &tonic::Status) -> AdapterError {
        match status.code() {
            tonic::Code::Unimplemented => {
                // Another version may be at the endpoint by now.
                self.version.store(0, Ordering::Relaxed);
                AdapterError::UnsupportedVersion { endpoint: self.endpoint.clone() }
            }
            tonic::Code::Unavailable => self.unreachable(status),
            code => AdapterError::Refused(format!("{code:?}: {}", status.message())),
        }
    }

    /// The entries of a table that match: `target` itself, or what lies within.
    async fn table(&self, dialect: Dialect, request: ListPathRequest, deadline: Duration) -> Result<Vec<Destination>, AdapterError> {
        let answers: Result<Vec<ListPathResponse>, _> = self.stream(dialect, "ListPath", request, deadline).await;
        match answers {
            Ok(answers) => Ok(answers.into_iter().filter_map(|answer| answer.destination).collect()),
            // A table without the entry is an answer.
            Err(AdapterError::Refused(reason)) if reason.starts_with("NotFound") || reason.contains("not found") => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn exact(&self, dialect: Dialect, table_type: i32, name: &str, target: Prefix) -> Result<Option<Destination>, AdapterError> {
        let prefixes = vec![TableLookupPrefix { prefix: route::text_of(target), kind: dialect.exact() }];
        let request = ListPathRequest { table_type, name: name.to_owned(), family: Some(route::family(target)), prefixes };
        let entries = self.table(dialect, request, self.deadline).await?;
        Ok(entries.into_iter().find(|entry| route::prefix_of(entry) == Some(target)))
    }

    /// Whose the route to `target` is: ours (`Some(true)`), of somebody else at this speaker (`Some(false)`), or nobody's here.
    async fn owner(&self, dialect: Dialect, target: Prefix) -> Result<Option<bool>, AdapterError> {
        let entry = self.exact(dialect, TABLE_GLOBAL, "", target).await?;
        let local = entry.iter().flat_map(|entry| &entry.paths).filter(|path| route::is_local(path));
        Ok(local.map(|path| self.attributes.is_ours(dialect, path)).reduce(|one, other| one || other))
    }

    async fn read_back(&self, dialect: Dialect, target: Prefix) -> Result<Carried, AdapterError> {
        if self.owner(dialect, target).await? != Some(true) {
            return Ok(Carried::Absent);
        }
        let answers: Vec<ListPeerResponse> = self.stream(dialect, "ListPeer", ListPeerRequest::default(), self.deadline).await?;
        let known: Vec<proto::Peer> = answers.into_iter().filter_map(|answer| answer.peer).collect();
        if known.is_empty() {
            return Ok(Carried::Alone);
        }
        let established = known.into_iter().filter_map(|peer| {
            let state = peer.state.filter(|state| state.session_state == ESTABLISHED)?;
            // A peer of a dynamic group has its address in the state only.
            let configured = peer.conf.map(|conf| conf.neighbor_address).filter(|address| !address.is_empty());
            Some(configured.unwrap_or(state.neighbor_address))
        });
        let mut peers = Vec::new();
        for peer in established.take(PEERS_ASKED_MAX) {
            // A peer that went away since, or that has not this family, has not the route; others may.
            if let Ok(Some(entry)) = self.exact(dialect, TABLE_ADJ_OUT, &peer, target).await
                && entry.paths.iter().any(|path| self.attributes.is_ours(dialect, path))
            {
                peers.push(peer);
            }
        }
        Ok(if peers.is_empty() { Carried::TableOnly } else { Carried::Peers(peers) })
    }

    async fn announce_now(&self, target: Prefix) -> Result<Carried, AdapterError> {
        let dialect = self.dialect().await?;
        if self.owner(dialect, target).await? == Some(false) {
            return Err(AdapterError::Occupied { target });
        }
        let path = Some(self.attributes.path(dialect, target));
        self.unary::<_, AddPathResponse>(dialect, "AddPath", AddPathRequest { table_type: TABLE_GLOBAL, path }).await?;
        match self.read_back(dialect, target).await? {
            Carried::Absent => Err(AdapterError::NotCarried),
            carried => Ok(carried),
        }
    }

    async fn withdraw_now(&self, target: Prefix) -> Result<(), AdapterError> {
        let dialect = self.dialect().await?;
        if self.owner(dialect, target).await? != Some(true) {
            return Ok(());
        }
        let request = DeletePathRequest {
            table_type: TABLE_GLOBAL,
            family: Some(route::family(target)),
            path: Some(self.attributes.path(dialect, target)),
        };
        self.unary::<_, Empty>(dialect, "DeletePath", request).await?;
        if self.owner(dialect, target).await? == Some(true) { Err(AdapterError::StillCarried) } else { Ok(()) }
    }

    async fn list_now(&self, networks: Option<&[Prefix]>) -> Result<Vec<Prefix>, AdapterError> {
        let dialect = self.dialect().await?;
        let deadline = if networks.is_some() { self.deadline } else { WHOLE_TABLE };
        let mut ours = Vec::new();
        for (afi, is_v4) in [(1, true), (2, false)] {
            let within = networks.unwrap_or_default().iter().filter(|network| network.is_v4() == is_v4);
            let prefixes: Vec<TableLookupPrefix> =
                within.map(|network| TableLookupPrefix { prefix: route::text_of(*network), kind: dialect.longer() }).collect();
            if networks.is_some() && prefixes.is_empty() {
                continue;
            }
            let request =
                ListPathRequest { table_type: TABLE_GLOBAL, name: String::new(), family: Some(proto::Family { afi, safi: 1 }), prefixes };
            let entries = self.table(dialect, request, deadline).await?;
            let is_ours =
                |entry: &&Destination| entry.paths.iter().any(|path| route::is_local(path) && self.attributes.is_ours(dialect, path));
            ours.extend(entries.iter().filter(is_ours).filter_map(route::prefix_of));
        }
        ours.sort_unstable();
        ours.dedup();
        Ok(ours)
    }
}

impl Adapter for Gobgp {
    fn announce<'a>(&'a self, rule: &'a GuardedRule) -> Answer<'a, Carried> {
        Box::pin(self.announce_now(rule.target()))
    }

    fn check(&self, target: Prefix) -> Answer<'_, Carried> {
        Box::pin(async move {
            let dialect = self.dialect().await?;
            self.read_back(dialect, target).await
        })
    }

    fn withdraw(&self, target: Prefix) -> Answer<'_, ()> {
        Box::pin(self.withdraw_now(target))
    }

    fn list<'a>(&'a self, networks: Option<&'a [Prefix]>) -> Answer<'a, Vec<Prefix>> {
        Box::pin(self.list_now(networks))
    }
}

fn late(deadline: Duration) -> AdapterError {
    AdapterError::Deadline { milliseconds: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX) }
}

fn path_of(dialect: Dialect, method: &str) -> Result<http::uri::PathAndQuery, AdapterError> {
    let path = format!("/{}/{method}", dialect.service());
    path.parse().map_err(|_| AdapterError::Setting { key: "method", value: path, wanted: "a path" })
}
