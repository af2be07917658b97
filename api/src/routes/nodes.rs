//! `/api/v1/nodes`: the servers that a workspace names, with what they receive.

use axum::routing::MethodFilter;
use serde_json::{Value, json};
use uuid::Uuid;

use analytics::detect::limit::Limits;
use schemas::counter::{Direction, Target};
use schemas::incident::{Incident, Metric};
use schemas::net::Address;
use schemas::time::Timestamp;

use crate::analysis::{Control, overrides};
use crate::app::App;
use crate::auth::{Access, Role, Secret};
use crate::error::ApiError;
use crate::input::{self, Form};
use crate::server::{Answer, Call, Route, listed};
use crate::state::audit::{self, Entry};
use crate::state::nodes::{self, Node};
use crate::state::{Page, incidents, workspaces};

pub(super) const ROUTES: &[Route] = &[
    Route {
        method: MethodFilter::GET,
        path: "/api/v1/nodes",
        access: Access::Least(Role::Readonly),
        parameters: &["limit", "offset", "status"],
        handler: |call| Box::pin(list(call)),
    },
    Route {
        method: MethodFilter::POST,
        path: "/api/v1/nodes",
        access: Access::Least(Role::Operator),
        parameters: &[],
        handler: |call| Box::pin(create(call)),
    },
    Route {
        method: MethodFilter::GET,
        path: "/api/v1/nodes/{uuid}",
        access: Access::Least(Role::Readonly),
        parameters: &[],
        handler: |call| Box::pin(get(call)),
    },
    Route {
        method: MethodFilter::PATCH,
        path: "/api/v1/nodes/{uuid}",
        access: Access::Least(Role::Operator),
        parameters: &[],
        handler: |call| Box::pin(change(call)),
    },
    Route {
        method: MethodFilter::DELETE,
        path: "/api/v1/nodes/{uuid}",
        access: Access::Least(Role::Operator),
        parameters: &[],
        handler: |call| Box::pin(delete(call)),
    },
];

const PRIORITIES: &[&str] = &["production", "staging", "development", "normal", "high"];
const STATUSES: &[&str] = &["online", "offline", "attack", "elevated"];
const NAME_CHARACTERS_MAX: usize = 100;
const LABEL_CHARACTERS_MAX: usize = 100;
const THRESHOLD_MAX: u64 = 1_000_000_000_000;

/// A node is elevated above this part of its threshold.
const ELEVATED_SHARE: f64 = 0.7;

/// What a node is made from.
#[derive(Debug)]
pub(super) struct New {
    name: Option<String>,
    ip: Option<Address>,
    location: Option<String>,
    os: Option<String>,
    interface: Option<String>,
    priority: Option<&'static str>,
    threshold_pps: Option<u64>,
}

impl New {
    /// The fields that an installer sends.
    pub(super) fn of_deploy(form: &mut Form) -> Self {
        Self {
            name: form.need("name", input::text(NAME_CHARACTERS_MAX)),
            ip: form.need("ip", input::address),
            location: form.take("location", input::text(LABEL_CHARACTERS_MAX)),
            os: form.take("os", input::text(LABEL_CHARACTERS_MAX)),
            interface: form.take("interface", input::text(LABEL_CHARACTERS_MAX)),
            priority: None,
            threshold_pps: None,
        }
    }

    fn of_create(form: &mut Form) -> Self {
        Self {
            priority: form.take("priority", input::one_of(PRIORITIES)),
            threshold_pps: form.take("threshold_pps", input::number(1..=THRESHOLD_MAX)),
            ..Self::of_deploy(form)
        }
    }
}

/// Adds a node, with a key for its agent.
pub(super) async fn add(call: &Call, new: New) -> Result<(Node, Secret), ApiError> {
    let caller = call.caller()?;
    let (Some(name), Some(ip)) = (new.name, new.ip) else {
        return Err(ApiError::validation("", "name and ip are required"));
    };
    let node = Node {
        uuid: Uuid::new_v4(),
        workspace: caller.workspace,
        name,
        ip,
        location: new.location,
        os: new.os,
        interface: new.interface.unwrap_or_else(|| "eth0".to_owned()),
        priority: new.priority.unwrap_or("production").to_owned(),
        threshold_pps: new.threshold_pps,
        created_at: call.now,
    };
    let key = Secret::generate()?;
    let (actor, now, nodes_max) = (caller.actor(), call.now, call.app.config.api.nodes_max);
    let (stored, stored_key) = (node.clone(), key.clone());
    let add = move |transaction: &rusqlite::Transaction<'_>| {
        let plan = workspaces::plan(transaction, stored.workspace)?;
        let limit = plan.nodes_max.unwrap_or(nodes_max);
        if limit > 0 && nodes::count(transaction, stored.workspace)? >= limit {
            return Err(ApiError::NodeLimit(limit));
        }
        if nodes::is_name_taken(transaction, stored.workspace, &stored.name, None)? {
            return Err(name_taken());
        }
        nodes::insert(transaction, &stored, &stored_key)?;
        let entry = Entry { action: "create", resource: "node", id: stored.uuid.to_string(), before: None, after: Some(record(&stored)) };
        Ok(audit::add(transaction, now, &actor, &entry)?)
    };
    call.app.state.write(add).await?;
    watch(&call.app, call.now).await?;
    Ok((node, key))
}

/// Tells the pipe of the nodes as they are now.
async fn watch(app: &App, now: Timestamp) -> Result<(), ApiError> {
    let all = app.state.read(nodes::all).await.map_err(ApiError::from)?;
    app.live.watch(all.iter().map(|node| node.ip));
    app.analysis.tell(Control::Nodes(all));
    super::maintenance::tell(app, now).await
}

async fn create(mut call: Call) -> Result<Answer, ApiError> {
    let mut form = call.form()?;
    let new = New::of_create(&mut form);
    form.finish()?;
    let (node, key) = add(&call, new).await?;
    let view = View::of(&call.app, call.now).await?;
    Ok(Answer::created(json!({ "node": view.detail(&node), "api_key": key.text() })))
}

async fn list(mut call: Call) -> Result<Answer, ApiError> {
    let page = call.query.page(50, 100);
    let known = |text: &str| {
        STATUSES.iter().copied().find(|status| *status == text).ok_or_else(|| format!("must be one of {}", STATUSES.join(", ")))
    };
    let status = call.query.take("status", known);
    call.query.finish()?;
    let workspace = call.caller()?.workspace;
    let view = View::of(&call.app, call.now).await?;
    // A status is made from what the pipe tells, not from the state: to filter by it, every node is looked at.
    let asked = if status.is_some() { Page { limit: u32::MAX, offset: 0 } } else { page };
    let found = call.app.state.read(move |connection| nodes::list(connection, workspace, asked)).await.map_err(ApiError::from)?;
    let Some(status) = status else {
        return Ok(listed("nodes", found.entries.iter().map(|node| view.summary(node)).collect(), found.total, page));
    };
    let matching: Vec<&Node> = found.entries.iter().filter(|node| view.status(node) == status).collect();
    let total = u64::try_from(matching.len()).unwrap_or(u64::MAX);
    let skip = usize::try_from(page.offset).unwrap_or(usize::MAX);
    let take = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let entries = matching.into_iter().skip(skip).take(take).map(|node| view.summary(node)).collect();
    Ok(listed("nodes", entries, total, page))
}

async fn get(call: Call) -> Result<Answer, ApiError> {
    let (workspace, uuid) = (call.caller()?.workspace, call.uuid("node")?);
    let node = call.app.state.read(move |connection| nodes::get(connection, workspace, uuid)).await.map_err(ApiError::from)?;
    let node = node.ok_or(ApiError::NotFound("node"))?;
    let view = View::of(&call.app, call.now).await?;
    Ok(Answer::ok(json!({ "node": view.detail(&node) })))
}

async fn change(mut call: Call) -> Result<Answer, ApiError> {
    let (caller, uuid) = (call.caller()?.clone(), call.uuid("node")?);
    let mut form = call.form()?;
    let name = form.replace("name", input::text(NAME_CHARACTERS_MAX));
    let ip = form.replace("ip", input::address);
    let location = form.change("location", input::text(LABEL_CHARACTERS_MAX));
    let os = form.change("os", input::text(LABEL_CHARACTERS_MAX));
    let interface = form.replace("interface", input::text(LABEL_CHARACTERS_MAX));
    let priority = form.replace("priority", input::one_of(PRIORITIES));
    let threshold_pps = form.change("threshold_pps", input::number(1..=THRESHOLD_MAX));
    let now = call.now;
    let work = move |transaction: &rusqlite::Transaction<'_>| {
        let before = nodes::get(transaction, caller.workspace, uuid)?.ok_or(ApiError::NotFound("node"))?;
        form.finish()?;
        let mut node = before.clone();
        node.name = name.unwrap_or(node.name);
        node.ip = ip.unwrap_or(node.ip);
        node.interface = interface.unwrap_or(node.interface);
        node.priority = priority.map_or(node.priority, str::to_owned);
        location.apply(&mut node.location);
        os.apply(&mut node.os);
        threshold_pps.apply(&mut node.threshold_pps);
        if node == before {
            return Ok(node);
        }
        if nodes::is_name_taken(transaction, caller.workspace, &node.name, Some(uuid))? {
            return Err(name_taken());
        }
        nodes::update(transaction, &node)?;
        let entry =
            Entry { action: "change", resource: "node", id: uuid.to_string(), before: Some(record(&before)), after: Some(record(&node)) };
        audit::add(transaction, now, &caller.actor(), &entry)?;
        Ok(node)
    };
    let node = call.app.state.write(work).await?;
    watch(&call.app, call.now).await?;
    let view = View::of(&call.app, call.now).await?;
    Ok(Answer::ok(json!({ "node": view.detail(&node) })))
}

async fn delete(call: Call) -> Result<Answer, ApiError> {
    let (caller, uuid, now) = (call.caller()?.clone(), call.uuid("node")?, call.now);
    let work = move |transaction: &rusqlite::Transaction<'_>| {
        let node = nodes::get(transaction, caller.workspace, uuid)?.ok_or(ApiError::NotFound("node"))?;
        nodes::delete(transaction, uuid, now)?;
        let entry = Entry { action: "delete", resource: "node", id: uuid.to_string(), before: Some(record(&node)), after: None };
        Ok::<_, ApiError>(audit::add(transaction, now, &caller.actor(), &entry)?)
    };
    call.app.state.write(work).await?;
    watch(&call.app, call.now).await?;
    Ok(Answer::Nothing)
}

fn name_taken() -> ApiError {
    ApiError::Duplicate("A node with that name already exists".to_owned())
}

/// A node as the audit log keeps it.
fn record(node: &Node) -> Value {
    json!({
        "uuid": node.uuid, "name": node.name, "ip": node.ip, "location": node.location, "os": node.os, "interface": node.interface,
        "priority": node.priority, "threshold_pps": node.threshold_pps,
    })
}

/// Nodes as they are shown: their records with the pipe's news of one moment.
pub(super) struct View<'a> {
    app: &'a App,
    pub(super) active: Vec<Incident>,
    limits: Limits,
    heard: bool,
}

impl<'a> View<'a> {
    pub(super) async fn of(app: &'a App, now: Timestamp) -> Result<Self, ApiError> {
        let active = app.state.read(incidents::active).await.map_err(ApiError::from)?;
        let all = app.state.read(nodes::all).await.map_err(ApiError::from)?;
        let analytics = &app.config.analytics;
        let limits = Limits::with_hostgroups(analytics.threshold.clone(), analytics.hostgroups.clone(), &overrides(&all));
        let silence_max = app.config.api.exporter_silence_seconds_max.saturating_mul(1_000);
        let heard = app.live.last_heard().is_some_and(|last| now.since(last) <= silence_max);
        Ok(Self { app, active, limits, heard })
    }

    /// How many incidents that are going on touch the node.
    pub(super) fn active_incidents(&self, node: &Node) -> usize {
        let touches =
            |incident: &&Incident| incident.target.contains(node.ip) || incident.node.as_ref().is_some_and(|named| named.uuid == node.uuid);
        self.active.iter().filter(touches).count()
    }

    pub(super) fn status(&self, node: &Node) -> &'static str {
        if self.active_incidents(node) > 0 {
            return "attack";
        }
        if !self.heard {
            return "offline";
        }
        let rate = self.app.live.rate(node.ip);
        let target = Target { prefix: node.ip.host(), direction: Direction::Incoming };
        // The limit that would open an incident: the most specific one, raised by what is learned. Those that are off are infinite.
        let limit = self.app.live.baselines().raise(self.limits.of(target), target);
        let over = |value: f64, metric: Metric| value > limit.get(metric) * ELEVATED_SHARE;
        let is_elevated = over(rate.packets_per_second, Metric::PacketsPerSecond) || over(rate.bits_per_second, Metric::BitsPerSecond);
        if is_elevated { "elevated" } else { "online" }
    }

    pub(super) fn packets_per_second(&self, node: &Node) -> u64 {
        whole(self.app.live.rate(node.ip).packets_per_second)
    }

    fn summary(&self, node: &Node) -> Value {
        let rate = self.app.live.rate(node.ip);
        json!({
            "uuid": node.uuid, "name": node.name, "ip": node.ip, "status": self.status(node), "priority": node.priority,
            "location": node.location, "os": node.os, "interface": node.interface,
            "last_pps": whole(rate.packets_per_second), "last_bps": whole(rate.bits_per_second),
            "threshold_pps": node.threshold_pps, "active_incidents": self.active_incidents(node),
            "last_seen": self.app.live.last_seen(node.ip), "created_at": node.created_at,
        })
    }

    /// The summary and what is normal for the node, null until it is learned.
    fn detail(&self, node: &Node) -> Value {
        let mut detail = self.summary(node);
        let normal = self.app.live.baselines().node(node.ip);
        let [tcp, udp, icmp, other] = match normal.and_then(|normal| normal.protocols) {
            Some(percent) => percent.map(Some),
            None => [None; 4],
        };
        let baseline = json!({
            "avg_pps": normal.map(|normal| normal.avg_pps), "p95_pps": normal.map(|normal| normal.p95_pps),
            "p99_pps": normal.map(|normal| normal.p99_pps),
            "protocols": { "tcp": tcp, "udp": udp, "icmp": icmp, "other": other },
        });
        if let Value::Object(fields) = &mut detail {
            fields.insert("baseline".to_owned(), baseline);
        }
        detail
    }
}

/// A rate as a whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, which is what a rate beyond u64 needs"
)]
fn whole(rate: f64) -> u64 {
    rate.round() as u64
}
