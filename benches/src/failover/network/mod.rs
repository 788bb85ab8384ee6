//! A network of network namespaces, with no way out of it.
//!
//! | namespace | vSwitch of     | range        |
//! |-----------|----------------|--------------|
//! | `a`       | zone a         | 10.66.1.0/24 |
//! | `b`       | zone b         | 10.66.2.0/24 |
//! | `w`       | the witness    | 10.66.3.0/24 |
//! | `clients` | who calls      | 10.66.9.0/24 |
//! | `router`  | joined to all, .254 in each; faults are injected here | |
//!
//! The host's own network is not touched: pairs of virtual cables are made inside the namespaces, and the router
//! knows no other network. Names carry the process's id, so that two runs stand side by side.

mod faults;
mod leftovers;
mod namespace;

use anyhow::Context;

pub(crate) use faults::Fault;
pub(crate) use namespace::Namespace;

/// The namespaces beside the router, and the third number of their addresses.
const PLACES: [(&str, u8); 4] = [("a", 1), ("b", 2), ("w", 3), ("clients", 9)];
/// Hosts in each of them: two data nodes, and room for others.
const HOSTS: std::ops::RangeInclusive<u8> = 1..=4;
/// The router in each of them.
const ROUTER: u8 = 254;

/// This machine or this user cannot make namespaces.
#[derive(Debug, thiserror::Error)]
#[error("network namespaces cannot be made here: {0}; it takes root, iproute2 and nftables")]
pub struct NoNamespaces(String);

/// The network; it is removed, with all processes in it, when this is dropped.
#[derive(Debug)]
pub(crate) struct Network {
    beginning: String,
    router: Namespace,
    /// In the order of [`PLACES`].
    places: Vec<Namespace>,
}

impl Network {
    /// Makes it, and removes what killed runs have left of theirs.
    pub(crate) fn make() -> anyhow::Result<Self> {
        let beginning = leftovers::beginning();
        leftovers::remove()?;
        let router = Namespace::make(format!("{beginning}-router"))
            .map_err(|error| NoNamespaces(format!("{error:#}")))?;
        let mut network = Self { beginning, router, places: Vec::new() };
        network.router.ip(&["route", "add", "blackhole", "default"])?;
        let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        namespace::output_of(network.router.command("sh").args(["-c", forward]))
            .map_err(|error| NoNamespaces(format!("{error:#}")))?;
        for (name, net) in PLACES {
            network
                .join(name, net)
                .with_context(|| format!("cannot make the network of {name}"))?;
        }
        // Says at once whether the kernel has packet filters.
        faults::inject(&network.router, Fault::Cut("a", "b"))
            .and_then(|()| network.heal())
            .map_err(|error| NoNamespaces(format!("{error:#}")))?;
        Ok(network)
    }

    fn join(&mut self, name: &str, net: u8) -> anyhow::Result<()> {
        let place = Namespace::make(format!("{}-{name}", self.beginning))?;
        self.places.push(place);
        let place = self.places.last().context("it was pushed")?;
        let end = ["peer", "name", "net", "netns", place.name()];
        self.router.ip(&[&["link", "add", "name", name, "type", "veth"][..], &end].concat())?;
        let address = |host: u8| format!("10.66.{net}.{host}");
        let gateway = address(ROUTER);
        self.router.ip(&["address", "add", &format!("{gateway}/24"), "dev", name])?;
        self.router.ip(&["link", "set", "dev", name, "up"])?;
        for host in HOSTS {
            place.ip(&["address", "add", &format!("{}/24", address(host)), "dev", "net"])?;
        }
        place.ip(&["link", "set", "dev", "net", "up"])?;
        place.ip(&["route", "add", "default", "via", &gateway])
    }

    /// Returns what the names of its namespaces begin with.
    pub(crate) fn beginning(&self) -> &str {
        &self.beginning
    }

    /// Returns the namespace of a zone, or of the clients.
    pub(crate) fn place(&self, name: &str) -> anyhow::Result<&Namespace> {
        let place = PLACES.iter().position(|(place, _)| *place == name);
        place.and_then(|place| self.places.get(place)).with_context(|| format!("no place {name}"))
    }

    /// Drops packets from now on.
    pub(crate) fn inject(&self, fault: Fault<'_>) -> anyhow::Result<()> {
        faults::inject(&self.router, fault)
    }

    /// Lets all packets through again; returns how many were dropped.
    pub(crate) fn heal(&self) -> anyhow::Result<u64> {
        faults::heal(&self.router)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in self.places.iter().chain([&self.router]) {
            if let Err(error) = namespace.remove() {
                eprintln!("the network namespace {} stays behind: {error:#}", namespace.name());
            }
        }
    }
}

/// Returns the range of a zone.
fn subnet(zone: &str) -> anyhow::Result<String> {
    let place = PLACES.iter().find(|(place, _)| *place == zone);
    let (_, net) = place.with_context(|| format!("there is no zone {zone}"))?;
    Ok(format!("10.66.{net}.0/24"))
}
