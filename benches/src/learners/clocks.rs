//! What the kernel has counted of all nodes at a moment, and what came between two of them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use rustix::process::Pid;
use tokio::time::Instant;

use super::groups::Periods;
use super::records::{Other, Quiet};
use super::sent::Sent;
use super::site::{Member, Site};
use crate::system::process::{ThreadTimes, thread_times};
use crate::system::weather::{Reading, Weather};

/// What was counted at a moment.
pub(crate) struct Clocks {
    at: Instant,
    sent: Sent,
    threads: BTreeMap<i32, ThreadTimes>,
    periods: BTreeMap<i32, Periods>,
    weather: Reading,
}

impl Clocks {
    /// Reads the clocks at the beginning of something: what takes longest to read comes before it.
    pub(super) fn at_begin(members: &[Member], leader: &Member) -> anyhow::Result<Self> {
        let sent = Sent::by(&leader.node)?;
        Ok(Self { sent, ..Self::read(members)? })
    }

    /// Reads the clocks at the end of something: what takes longest to read comes behind it.
    pub(super) fn at_end(members: &[Member], leader: &Member) -> anyhow::Result<Self> {
        let clocks = Self::read(members)?;
        Ok(Self { sent: Sent::by(&leader.node)?, ..clocks })
    }

    fn read(members: &[Member]) -> anyhow::Result<Self> {
        let (mut threads, mut periods) = (BTreeMap::new(), BTreeMap::new());
        let processes: Vec<_> = members.iter().map(|member| member.process).collect();
        let (at, weather) = (Instant::now(), Reading::take(&processes)?);
        for process in processes.into_iter().chain([rustix::process::getpid()]) {
            threads.insert(id(process), thread_times(process)?);
        }
        for member in members {
            periods.insert(id(member.process), member.group.periods()?);
        }
        Ok(Self { at, sent: Sent::default(), threads, periods, weather })
    }

    /// Returns the time since `before`.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        self.at - before.at
    }

    /// Returns the processor time that a process, a node or this one, used since `before`.
    pub(crate) fn cpu(&self, before: &Self, process: Pid) -> anyhow::Result<Duration> {
        let of = |at: &Self| at.threads.get(&id(process)).cloned();
        let (start, end) = of(before).zip(of(self)).context("the process was not looked at")?;
        Ok(end.since(&start))
    }

    /// Returns the periods of a node's quota since `before`, and those whose quota was used up.
    pub(crate) fn periods(&self, before: &Self, member: &Member) -> (u64, u64) {
        let of = |at: &Self, what: fn(&Periods) -> u64| {
            at.periods.get(&id(member.process)).map_or(0, what)
        };
        let passed = |what| of(self, what).saturating_sub(of(before, what));
        (passed(|periods| periods.all), passed(|periods| periods.cut_short))
    }

    /// Returns what others did to the machine since `before`.
    pub(crate) fn weather(&self, before: &Self) -> Weather {
        Weather::between(&before.weather, &self.weather)
    }

    /// Returns what the leader used and sent since `before`, and what the others used.
    pub(crate) fn quiet(
        &self,
        before: &Self,
        site: &Site,
        leader: &Member,
    ) -> anyhow::Result<Quiet> {
        let others = site.members().iter().filter(|member| member.process != leader.process);
        let others = others.map(|member| {
            Ok(Other {
                node: member.node.name.clone(),
                part: member.part,
                cpu_s: self.cpu(before, member.process)?.as_secs_f64(),
                bytes: self.sent.since(&before.sent, member.id),
            })
        });
        Ok(Quiet {
            leader: leader.node.name.clone(),
            seconds: self.since(before).as_secs_f64(),
            leader_cpu_s: self.cpu(before, leader.process)?.as_secs_f64(),
            others: others.collect::<anyhow::Result<_>>()?,
        })
    }
}

fn id(process: Pid) -> i32 {
    process.as_raw_nonzero().get()
}
