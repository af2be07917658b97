//! The way to the engine: where it answers now, if it does; shared by who writes, who asks and who keeps it running.

use std::sync::Arc;

use arc_swap::ArcSwap;

/// Where an engine answers ClickHouse's HTTP interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `http://host:port`.
    pub url: String,
    /// Who we are there.
    pub user: String,
    /// The password of that user; for a child of ours a secret made at its start.
    pub password: String,
    /// The database that holds our tables.
    pub database: String,
    /// Whether it is worth the time to compress what is sent.
    pub is_remote: bool,
}

/// What is known of the engine.
#[derive(Clone, Debug)]
enum Standing {
    Up(Endpoint, Box<clickhouse::Client>),
    Away(String),
}

/// The way to the engine; cheap to clone, and never waits.
#[derive(Clone, Debug)]
pub struct Link(Arc<ArcSwap<Standing>>);

/// The way with connections of its own, for who runs on a runtime of his own: what another opened is served by the runtime that it was
/// opened on, and waits when that is busy with other things.
#[derive(Debug)]
pub struct OwnWay {
    link: Link,
    /// The client, and where it leads.
    made: Option<(Endpoint, clickhouse::Client)>,
}

impl OwnWay {
    /// A way of one's own where `link` leads.
    #[must_use]
    pub fn new(link: Link) -> Self {
        Self { link, made: None }
    }

    /// A client of the engine, with our database; the same as long as the engine answers at the same place.
    ///
    /// # Errors
    ///
    /// [`Away`] while it does not answer.
    pub fn client(&mut self) -> Result<clickhouse::Client, Away> {
        let endpoint = self.link.endpoint()?;
        match &self.made {
            Some((made, own)) if *made == endpoint => Ok(own.clone()),
            _ => {
                let own = client(&endpoint);
                self.made = Some((endpoint, own.clone()));
                Ok(own)
            }
        }
    }
}

/// The engine does not answer for now, or is not there at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Away(pub String);

impl Link {
    /// A way that leads nowhere yet, for `reason`.
    #[must_use]
    pub fn away(reason: &str) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Standing::Away(reason.to_owned()))))
    }

    /// From now on the engine answers at `endpoint`, with the schema that we need.
    pub fn set_up(&self, endpoint: Endpoint) {
        let client = client(&endpoint);
        self.0.store(Arc::new(Standing::Up(endpoint, Box::new(client))));
    }

    /// From now on it does not, for `reason`.
    pub fn set_away(&self, reason: &str) {
        self.0.store(Arc::new(Standing::Away(reason.to_owned())));
    }

    /// A client of the engine, with our database.
    ///
    /// # Errors
    ///
    /// [`Away`] while it does not answer.
    pub fn client(&self) -> Result<clickhouse::Client, Away> {
        match &**self.0.load() {
            Standing::Up(_, client) => Ok(clickhouse::Client::clone(client)),
            Standing::Away(reason) => Err(Away(reason.clone())),
        }
    }

    /// Where it answers.
    ///
    /// # Errors
    ///
    /// [`Away`] while it does not.
    pub fn endpoint(&self) -> Result<Endpoint, Away> {
        match &**self.0.load() {
            Standing::Up(endpoint, _) => Ok(endpoint.clone()),
            Standing::Away(reason) => Err(Away(reason.clone())),
        }
    }
}

/// A client of an endpoint, whether it is known to answer or not.
#[must_use]
pub fn client(endpoint: &Endpoint) -> clickhouse::Client {
    let compression = if endpoint.is_remote { clickhouse::Compression::Lz4 } else { clickhouse::Compression::None };
    clickhouse::Client::default()
        .with_url(&endpoint.url)
        .with_user(&endpoint.user)
        .with_password(&endpoint.password)
        .with_database(&endpoint.database)
        .with_compression(compression)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_leads_where_it_was_last_set_to() {
        let link = Link::away("the engine starts");
        assert_eq!(link.client().unwrap_err(), Away("the engine starts".to_owned()));
        let endpoint = Endpoint {
            url: "http://127.0.0.1:8123".to_owned(),
            user: "default".to_owned(),
            password: String::new(),
            database: "weir".to_owned(),
            is_remote: false,
        };
        link.set_up(endpoint.clone());
        assert_eq!(link.clone().endpoint(), Ok(endpoint));
        link.set_away("the engine was ended by signal 9");
        assert!(link.client().is_err());
    }
    /// On a connection that another has opened, an insert would wait for what that one is busy with.
    #[tokio::test]
    async fn a_way_of_ones_own_has_its_own_connections_and_keeps_them() {
        use axum::extract::ConnectInfo;
        use std::net::SocketAddr;

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint {
            url: format!("http://{}", listener.local_addr().unwrap()),
            user: String::new(),
            password: String::new(),
            database: "weir".to_owned(),
            is_remote: false,
        };
        let router = axum::Router::new().fallback(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.port().to_string() });
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        let link = Link::away("not yet");
        let mut own = OwnWay::new(link.clone());
        assert!(own.client().is_err());
        link.set_up(endpoint);
        let port = async |client: clickhouse::Client| client.query_raw("").fetch_bytes("TSV").unwrap().collect().await.unwrap();
        let ports = [
            port(link.client().unwrap()).await,
            port(own.client().unwrap()).await,
            port(link.client().unwrap()).await,
            port(own.client().unwrap()).await,
        ];
        assert_ne!(ports[0], ports[1]);
        assert_eq!((&ports[0], &ports[1]), (&ports[2], &ports[3]));
    }
}
