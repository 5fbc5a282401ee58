//! All that runs by one configuration: Direct Server Return on an interface, the proxy, or both, with the same backends.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tracing::{info, warn};

use crate::appliance::{Appliance, Ground};
use crate::config::{self, Config};
use crate::failure::{Failure, Sysexit};
use crate::lb::acl::Acl;
use crate::logging;
use crate::os::Kept;
use crate::probe::Check;
use crate::proxy::Proxy;

/// All that runs.
pub struct Balancer {
    config: Config,
    version: u64,
    control_acl: Arc<RwLock<Option<Arc<Acl>>>>,
    appliance: Option<Appliance>,
    proxy: Option<Proxy>,
}

impl Balancer {
    /// Opens what needs privileges. Nothing runs yet.
    ///
    /// # Errors
    /// What could not be set up.
    pub fn prepare(config: Config) -> Result<Balancer, Failure> {
        if config.proxy.handover.is_some() && !config.balance.vips.is_empty() {
            let what = "virtual addresses cannot be handed over to a successor as listeners are: leave handover out, or let a process of its own be the proxy";
            return Err(Failure::new(Sysexit::Config, what));
        }
        let proxy = (!config.proxy.is_empty()).then(|| Proxy::prepare(&config)).transpose()?;
        // Without virtual addresses the interface has nothing to do.
        let appliance = match (&proxy, config.balance.vips.is_empty()) {
            (Some(_), true) => None,
            _ => Some(Appliance::prepare(config.clone(), Ground::find(&config.process)?)?),
        };
        let balancer = Balancer { config, version: 0, control_acl: Arc::default(), appliance, proxy };
        balancer.publish_control_acl();
        Ok(balancer)
    }

    /// Starts what was prepared.
    ///
    /// # Errors
    /// No thread.
    pub fn start(&mut self) -> Result<(), Failure> {
        if let Some(appliance) = &mut self.appliance {
            appliance.start()?;
        }
        if let Some(proxy) = &mut self.proxy {
            proxy.start(&self.config)?;
            proxy.take_remarks().iter().for_each(|remark| warn!("{remark}"));
        }
        self.follow();
        Ok(())
    }

    /// What it cannot do without, once it is another user.
    pub fn kept(&self) -> Kept {
        let transparent = self.config.proxy.listeners.iter().any(|listener| listener.transparent);
        Kept {
            // An echo is asked for by a raw socket.
            packets: self.appliance.is_some() || self.config.balance.health.check == Check::Icmp,
            bpf: self.appliance.as_ref().is_some_and(Appliance::is_by_xdp),
            foreign_addresses: transparent,
            low_ports: self.proxy.is_some(),
        }
    }

    /// The files that are written to, or opened anew.
    pub fn files(&self) -> Vec<&Path> {
        let log = self.config.process.log_file.as_deref();
        let flows = self.appliance.iter().flat_map(Appliance::flow_files);
        log.into_iter().chain(flows).chain(self.proxy.iter().flat_map(Proxy::files)).collect()
    }

    /// Everything by `config` from now on, or nothing of it. Returns what differs from before. `reread`: files that it names
    /// are read anew.
    ///
    /// # Errors
    /// It contradicts itself, or this host, or changes what cannot be changed while the program runs.
    pub fn apply(&mut self, config: Config, reread: bool) -> Result<Vec<String>, Failure> {
        config.validate()?;
        self.refuse_fixed(&config)?;
        let difference = config::difference(&self.config, &config);
        // What can fail comes first, and changes nothing.
        let prepared = match &self.proxy {
            Some(proxy) => Some(proxy.plan_for(&config, reread)?),
            None => None,
        };
        let new = match &self.proxy {
            None if !config.proxy.is_empty() => Some(Proxy::prepare(&config)?),
            _ => None,
        };
        if let Some(appliance) = &mut self.appliance {
            appliance.apply(config.clone())?;
        }
        if let (Some(proxy), Some(prepared)) = (&mut self.proxy, prepared) {
            proxy.adopt(prepared, &config);
        }
        if let Some(mut new) = new {
            new.start(&config)?;
            self.proxy = Some(new);
        }
        if config.process.debug != self.config.process.debug {
            logging::set_level(config.process.debug);
        }
        self.config = config;
        self.version += 1;
        self.publish_control_acl();
        if let Some(proxy) = &mut self.proxy {
            proxy.take_remarks().iter().for_each(|remark| warn!("{remark}"));
        }
        self.follow();
        Ok(difference)
    }

    fn refuse_fixed(&self, config: &Config) -> Result<(), Failure> {
        let mut fixed = self.config.fixed_difference(config);
        if self.appliance.is_none() && !config.balance.vips.is_empty() {
            fixed.push("the first virtual address".to_owned());
        }
        if fixed.is_empty() {
            return Ok(());
        }
        let what = format!(
            "this cannot be changed while the program runs: {}; restart it, or take that back",
            fixed.join(", ")
        );
        Err(Failure::new(Sysexit::Config, what))
    }

    fn publish_control_acl(&self) {
        let balance = &self.config.balance;
        let acl = balance.control_acl.and_then(|number| balance.acls.get(&number));
        *self.control_acl.write() = acl.map(|acl| Arc::new(acl.clone()));
    }

    /// Who may give commands over TCP, as it stands at any time.
    pub fn control_acl(&self) -> Arc<RwLock<Option<Arc<Acl>>>> {
        Arc::clone(&self.control_acl)
    }

    /// The configuration as it stands.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Another number for every configuration that there has been.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Direct Server Return, if there is that.
    pub fn appliance(&self) -> Option<&Appliance> {
        self.appliance.as_ref()
    }

    /// The same, to change it.
    pub fn appliance_mut(&mut self) -> Option<&mut Appliance> {
        self.appliance.as_mut()
    }

    /// The proxy, if there is one.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// The same, to change it.
    pub fn proxy_mut(&mut self) -> Option<&mut Proxy> {
        self.proxy.as_mut()
    }

    /// Does what is due.
    pub fn advance(&mut self) {
        if let Some(appliance) = &mut self.appliance {
            appliance.advance();
        }
        if let Some(proxy) = &mut self.proxy {
            proxy.advance();
        }
        self.follow();
    }

    /// When something is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.appliance.as_ref().and_then(Appliance::poll_timeout)
    }

    /// What Direct Server Return's checks and the operator say of a backend is so for the proxy, too.
    fn follow(&mut self) {
        let (Some(appliance), Some(proxy)) = (&self.appliance, &mut self.proxy) else { return };
        proxy.follow(&appliance.director().standings());
    }

    /// Accepts no more clients of the proxy. Is there something to wait for, and for how long at most?
    pub fn drain(&mut self) -> Option<Duration> {
        let proxy = self.proxy.as_ref()?;
        proxy.drain();
        let (time, left) = (self.config.proxy.timeouts.drain, proxy.shared().connections());
        let datagrams = match proxy.shared().datagrams.clients() {
            0 => String::new(),
            n => format!("; {n} clients with datagrams are not heard any more, only what their servers still answer"),
        };
        info!("no more connections are accepted; {left} have up to {} s to end{datagrams}", time.as_secs());
        Some(time)
    }

    /// Has all that was drained ended?
    pub fn is_drained(&self) -> bool {
        self.proxy.as_ref().is_none_or(Proxy::is_over)
    }

    /// Ends all of it.
    pub fn stop(&mut self) {
        if let Some(proxy) = &mut self.proxy {
            proxy.stop();
        }
        if let Some(appliance) = &mut self.appliance {
            appliance.stop();
        }
    }
}
