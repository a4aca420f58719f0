//! The driver: one task that asks gateways and STUN servers in the background and tells discovery what they say.
//!
//! Nothing waits for it. Each asker has a [`Keeper`] that decides when to ask; the asking itself runs beside the loop, one
//! attempt of each asker at a time, under a time-out.

use std::time::{Duration, Instant};

use kadwire_discovery::{Discovery, Now, discv4::ExternalEndpoint, is_public};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{sleep_until, timeout},
};
use tracing::{error, info, warn};

use super::{
    gateway::{Gateway, Protocol},
    keeper::{Found, Keeper, LEASE},
    method::{Method, Plan},
    stun,
    trouble::Trouble,
};

/// The longest attempt: a search for the gateway, then three mappings.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(25);

/// The longest wait at the end, for mappings to be removed. What is left ends with its lease.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// What a STUN server said is held so long without a new answer: three questions may fail.
const STUN_LEASE: Duration = Duration::from_secs(30 * 60);

/// The running driver. Dropping it leaves mappings to end with their leases; [`Nat::stop`] removes them.
#[derive(Debug)]
pub struct Nat {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Nat {
    /// Begins to ask, if the plan asks anybody. What is mapped are discovery's UDP port and the TCP ports `tcp`, one a wire. Explicit
    /// addresses are not its business: they go into [`Config::advertise_ips`](kadwire_discovery::Config::advertise_ips).
    pub fn start(plan: &Plan, discovery: Discovery, tcp: [Option<u16>; 2]) -> Option<Nat> {
        let methods = plan.asking();
        if methods.is_empty() {
            return None;
        }
        let (stop, stopped) = watch::channel(false);
        let ports = Ports { udp: discovery.local_address().port(), tcp };
        let now = Now::read();
        let askers = methods.into_iter().map(|method| Asker::new(method, now)).collect();
        let publisher = Publisher { discovery, published: Vec::new() };
        let task = tokio::spawn(Task { askers, ports, publisher, attempts: JoinSet::new(), stopped }.run());
        Some(Nat { stop, task })
    }

    /// Removes the mappings, for at most 3 s, and ends.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(problem) = self.task.await {
            error!(%problem, "port mapping did not end cleanly");
        }
    }
}

/// Our own ports.
#[derive(Clone, Copy, Debug)]
struct Ports {
    udp: u16,
    /// Of each wire that listens.
    tcp: [Option<u16>; 2],
}

/// One method, and what came of it.
struct Asker {
    method: Method,
    keeper: Keeper,
    /// `None` while an attempt is under way.
    source: Option<Source>,
}

impl Asker {
    fn new(method: Method, now: Now) -> Self {
        let source = Some(Source { method: method.clone(), gateway: None });
        Asker { method, keeper: Keeper::new(now), source }
    }
}

/// Who is asked.
struct Source {
    method: Method,
    gateway: Option<Gateway>,
}

/// An attempt that is over: whose, the source back, what it said unless it was interrupted.
type Attempt = (usize, Source, Option<Result<Answer, Trouble>>);

/// What a source said.
struct Answer {
    found: Found,
    /// Who said it.
    by: String,
    /// The UDP port is mapped, these TCP ports are not.
    tcp_troubles: Vec<Trouble>,
}

impl Source {
    async fn attempt(&mut self, ports: Ports) -> Result<Answer, Trouble> {
        let asked = timeout(ATTEMPT_TIMEOUT, self.ask(ports)).await;
        asked.unwrap_or(Err(Trouble::TimedOut(ATTEMPT_TIMEOUT.as_secs())))
    }

    async fn ask(&mut self, ports: Ports) -> Result<Answer, Trouble> {
        let servers = self.method.stun_servers();
        if !servers.is_empty() {
            let ip = stun::external_ip(&servers).await?;
            let endpoint = ExternalEndpoint { ip, udp: None, tcp: [None; 2] };
            let found = Found { endpoint, lease: Some(STUN_LEASE) };
            return Ok(Answer { found, by: "STUN server".to_owned(), tcp_troubles: Vec::new() });
        }
        // A gateway that served before is asked again; if it fails, it is looked for anew. It may have been replaced.
        if let Some(gateway) = &mut self.gateway
            && let Ok(answer) = map(gateway, ports).await
        {
            return Ok(answer);
        }
        let mut trouble = Trouble::NoRoute; // replaced: there is at least one search
        let mut searches = searches(&self.method);
        while let Some(found) = searches.join_next().await {
            match found {
                Ok(Ok(gateway)) => {
                    let gateway = self.gateway.insert(gateway);
                    match map(gateway, ports).await {
                        Ok(answer) => return Ok(answer),
                        Err(problem) => trouble = problem,
                    }
                    // What it has mapped is of no use.
                    gateway.unmap_all().await;
                }
                Ok(Err(problem)) => trouble = problem,
                Err(problem) => trouble = std::io::Error::other(problem).into(),
            }
        }
        Err(trouble)
    }
}

/// Looks for gateways that the method allows, all at once; who answers first comes out first.
fn searches(method: &Method) -> JoinSet<Result<Gateway, Trouble>> {
    let mut searches = JoinSet::new();
    if matches!(method, Method::Any | Method::Upnp) {
        searches.spawn(Gateway::find_upnp());
    }
    match *method {
        Method::Any => _ = searches.spawn(Gateway::find_pmp(None)),
        Method::Pmp(gateway) => _ = searches.spawn(Gateway::find_pmp(gateway)),
        _ => {}
    }
    searches
}

async fn map(gateway: &mut Gateway, ports: Ports) -> Result<Answer, Trouble> {
    let udp = gateway.map(Protocol::Udp, ports.udp).await?;
    let (mut tcp, mut leases, mut tcp_troubles) = ([None; 2], vec![udp.lease], Vec::new());
    for (place, port) in tcp.iter_mut().zip(ports.tcp) {
        let Some(port) = port else { continue };
        match gateway.map(Protocol::Tcp, port).await {
            Ok(mapped) => {
                *place = Some((port, mapped.port));
                leases.push(mapped.lease);
            }
            Err(trouble) => tcp_troubles.push(trouble),
        }
    }
    let ip = gateway.external_ip().await?;
    if !is_public(ip) {
        return Err(Trouble::BehindAnother(ip));
    }
    let lease = leases.into_iter().flatten().min();
    let endpoint = ExternalEndpoint { ip, udp: Some(udp.port), tcp };
    // A mapping that never ends may still be lost: a gateway that is not heard of for so long is not believed.
    let found = Found { endpoint, lease: lease.or(Some(LEASE)) };
    Ok(Answer { found, by: gateway.to_string(), tcp_troubles })
}

/// Tells discovery.
struct Publisher {
    discovery: Discovery,
    published: Vec<ExternalEndpoint>,
}

impl Publisher {
    async fn publish(&mut self, endpoints: Vec<ExternalEndpoint>) {
        if endpoints != self.published {
            self.published.clone_from(&endpoints);
            // An error means that discovery is closed; then this ends soon too.
            let _closed = self.discovery.set_external(endpoints).await;
        }
    }
}

struct Task {
    askers: Vec<Asker>,
    ports: Ports,
    publisher: Publisher,
    attempts: JoinSet<Attempt>,
    stopped: watch::Receiver<bool>,
}

impl Task {
    async fn run(mut self) {
        let mut stopped = self.stopped.clone();
        loop {
            let now = Now::read();
            for asker in &mut self.askers {
                if asker.keeper.handle_timeout(now) {
                    warn!(nat = %asker.method, "the external address is forgotten: nobody has confirmed it for a lease's time");
                }
            }
            self.publisher.publish(self.askers.iter().filter_map(|asker| asker.keeper.external()).collect()).await;
            self.ask(now.monotonic);
            // Who asks nobody is not started.
            let due = self.askers.iter().map(|asker| asker.keeper.poll_timeout()).min();
            tokio::select! {
                biased;
                // Also when the handle is gone.
                _ = stopped.wait_for(|stopped| *stopped) => break,
                Some(attempt) = self.attempts.join_next() => match attempt {
                    Ok((number, source, outcome)) => self.answered(number, source, outcome),
                    Err(problem) => error!(%problem, "an attempt to map a port failed badly; that method is not tried again"),
                },
                () = sleep_until(due.unwrap_or(now.monotonic).into()), if due.is_some() => {}
            }
        }
        if *stopped.borrow() && timeout(STOP_TIMEOUT, self.release()).await.is_err() {
            warn!("the gateway is slow: mappings are left to end with their leases");
        }
    }

    /// Begins the attempts that are due.
    fn ask(&mut self, now: Instant) {
        for (number, asker) in self.askers.iter_mut().enumerate() {
            if asker.keeper.poll_ask(now)
                && let Some(mut source) = asker.source.take()
            {
                let (ports, mut stopped) = (self.ports, self.stopped.clone());
                self.attempts.spawn(async move {
                    let outcome = tokio::select! {
                        outcome = source.attempt(ports) => Some(outcome),
                        _ = stopped.wait_for(|stopped| *stopped) => None,
                    };
                    (number, source, outcome)
                });
            }
        }
    }

    fn answered(&mut self, number: usize, source: Source, outcome: Option<Result<Answer, Trouble>>) {
        let Some(asker) = self.askers.get_mut(number) else { return };
        asker.source = Some(source);
        let now = Now::read().monotonic;
        match outcome {
            None => {}
            Some(Ok(Answer { found, by, tcp_troubles })) => {
                if !asker.keeper.handle_found(now, found) {
                    return;
                }
                let ExternalEndpoint { ip, udp, tcp } = found.endpoint;
                let tcp: Vec<u16> = tcp.into_iter().flatten().map(|(_, outside)| outside).collect();
                info!(nat = %asker.method, %by, %ip, udp, ?tcp, "external address found");
                for trouble in tcp_troubles {
                    warn!(problem = %trouble, advice = trouble.advice(), "peers cannot dial us from outside");
                }
            }
            Some(Err(trouble)) => {
                if asker.keeper.handle_failed(now, trouble)
                    && let Some(trouble) = asker.keeper.trouble()
                {
                    warn!(nat = %asker.method, problem = %trouble, advice = trouble.advice(), "no external address; tried again");
                }
            }
        }
    }

    /// Takes back what was mapped, also by an attempt that was interrupted.
    async fn release(&mut self) {
        while let Some(attempt) = self.attempts.join_next().await {
            if let Ok((number, source, _)) = attempt
                && let Some(asker) = self.askers.get_mut(number)
            {
                asker.source = Some(source);
            }
        }
        for asker in &mut self.askers {
            if let Some(Source { gateway: Some(gateway), .. }) = &mut asker.source {
                gateway.unmap_all().await;
            }
        }
    }
}
