//! `twinkeep drill zone-loss`: a zone is lost under load, and comes back whatever happens meanwhile.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::time::{sleep, sleep_until};
use twinkeep_client::Client;

use super::keys::{self, DESCRIPTION, Disabled};
use super::story::Story;
use super::watch::Watch;
use super::{check, figures, picture};
use crate::cluster;
use crate::context::Context;
use crate::dev::layout::{DevNode, Layout};
use crate::dev::load::{self, Application, Made, Writer};
use crate::dev::loss::{self, How, Lost};
use crate::dev::process;
use crate::dev::up::{self, progress};
use crate::interrupt::{Interrupts, Stop};
use crate::output::{Format, replace, show};

/// Load before the loss.
const BEFORE: Duration = Duration::from_secs(3);
/// Load after the zone is counted on again.
const AFTER: Duration = Duration::from_secs(1);
/// Time from one new key to the next, where that comes in time.
const KEY_PACE: Duration = Duration::from_millis(20);
/// Longest wait for the cluster to be healthy again.
const HEALTHY_MAX: Duration = Duration::from_secs(60);
/// Pause between two looks meanwhile.
const LOOK_PACE: Duration = Duration::from_millis(50);
/// Keys that are disabled one by one.
const DISABLES: usize = 100;

/// Loses a zone of a development cluster under load, gets it back, and measures what callers notice.
///
/// Two applications, one in each zone, encrypt and decrypt through the client library, and one key is made after
/// another, while all processes of a zone are killed or stopped. Afterwards every key that was acknowledged is looked for
/// on every data node, and some are disabled. Prints the promises with their figures, writes them to reports/drill.json
/// and draws what happened. The zone is brought back in any case, also after Ctrl-C. Ends with 1 if a promise is missed.
///
/// Refuses every cluster that `twinkeep dev up` has not started on this machine, and one that is not healthy.
#[derive(Debug, clap::Args)]
pub(crate) struct ZoneLoss {
    /// Folder of the cluster; `.dev` unless another one is in use.
    #[arg(long, env = "TWINKEEP_HOME", value_name = "FOLDER")]
    home: Option<PathBuf>,
    /// The zone to lose.
    #[arg(long, value_enum, default_value_t = Choice::Leader)]
    zone: Choice,
    /// How it is lost.
    #[arg(long, value_enum, default_value_t = How::Kill)]
    how: How,
    /// How long it is lost, 2 to 600 seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=600))]
    seconds: u64,
    /// Calls a second of both applications together, 10 to 20000.
    #[arg(long, value_name = "CALLS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=20_000))]
    rate: u32,
    /// Where to draw what happened, as SVG.
    #[arg(long, value_name = "FILE", default_value = "reports/drill.svg")]
    out: PathBuf,
}

/// Which zone to lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Choice {
    /// Zone a.
    A,
    /// Zone b.
    B,
    /// The one with the leader.
    Leader,
    /// The one without.
    Other,
}

impl Choice {
    /// Returns the zone to lose and the one that stays.
    fn zones(self, led: &str) -> (&'static str, &'static str) {
        let is_a = match self {
            Self::A => true,
            Self::B => false,
            Self::Leader => led == "a",
            Self::Other => led != "a",
        };
        if is_a { ("a", "b") } else { ("b", "a") }
    }
}

impl ZoneLoss {
    /// Loses a zone and gets it back.
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let layout = context.development(self.home.as_deref(), "drill zone-loss")?;
        let _lock = process::lock(&layout.path(""))?;
        let leader = check::fit(&layout).await?;
        make_folder(&self.out)?;
        let mut signals = Interrupts::listen();
        let mut stage = Stage::open(&layout, &self, leader).await?;
        let lost = signals.unless(stage.lose()).await;
        // Whatever happened, the zone comes back before anything else is done.
        let returned = stage.bring_back(&mut signals).await;
        let measured = match lost.and(returned) {
            Ok(()) => signals.unless(stage.measure()).await,
            Err(stop) => Err(stop),
        };
        let closed = stage.close().await;
        match measured {
            Ok(measured) => {
                closed?;
                self.tell(&measured, context.format())
            }
            Err(Stop::Signal(number)) => {
                closed?;
                progress("interrupted before all was measured: nothing is written");
                Ok(ExitCode::from(u8::try_from(128 + number).unwrap_or(1)))
            }
            // What came first counts.
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// Prints, writes and draws what was measured.
    fn tell(&self, measured: &Measured, format: Format) -> anyhow::Result<ExitCode> {
        let Measured { story, lost, disabled } = measured;
        let promises = figures::promises(story, lost.len(), disabled);
        let report = figures::report(story, &promises, disabled);
        eprintln!("\n{} at {}:", report.machine(), report.commit());
        show(format, &report)?;
        let failed_call = story.first_failed().and_then(|call| call.failed.as_deref());
        let failed_write = story.writes.iter().find_map(load::Write::failed);
        let lost_key = lost.first().map(String::as_str);
        let firsts =
            [("failed call", failed_call), ("failed write", failed_write), ("lost key", lost_key)];
        for (what, why) in firsts {
            if let Some(why) = why {
                eprintln!("  first {what}: {why}");
            }
        }
        let written = report.write(Path::new("reports"), "drill");
        let written = written.context("cannot write the report")?;
        replace(&self.out, picture::draw(story, &promises, &report).as_bytes(), 0o644)?;
        eprintln!("written to {} and {}", written.display(), self.out.display());
        ensure!(report.holds(), "a promise was missed; see above");
        Ok(ExitCode::SUCCESS)
    }
}

fn make_folder(out: &Path) -> anyhow::Result<()> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    let Some(folder) = folder else { return Ok(()) };
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// What a drill came to.
struct Measured {
    story: Story,
    /// Keys that were acknowledged and do not work, each with the reason.
    lost: Vec<String>,
    disabled: Disabled,
}

/// A cluster under load, a zone of which may be lost at the moment.
struct Stage<'l> {
    layout: &'l Layout,
    plan: Plan,
    instance_id: String,
    client: Client,
    applications: Vec<Application>,
    writer: Option<Writer>,
    watch: Watch,
    began: Instant,
    lost: Option<Lost<'l>>,
    moments: Option<(Instant, Instant)>,
    back: Option<Instant>,
}

/// What is to be lost.
struct Plan {
    zone: &'static str,
    how: How,
    lasts: Duration,
    rate: u32,
    leader: String,
    led_there: bool,
}

impl<'l> Stage<'l> {
    /// Begins to call.
    async fn open(layout: &'l Layout, drill: &ZoneLoss, leader: &DevNode) -> anyhow::Result<Self> {
        let (zone, stays) = drill.zone.zones(&leader.zone);
        let plan = Plan {
            zone,
            how: drill.how,
            lasts: Duration::from_secs(drill.seconds),
            rate: drill.rate,
            leader: leader.name.clone(),
            led_there: zone == leader.zone,
        };
        let instance_id = std::fs::read_to_string(layout.path("first-instance"))
            .context("the cluster has no first instance")?;
        // As anybody would make it. The writer stands in the zone that stays.
        let client = up::client_in(layout, up::CALLER, stays)?;
        let request = load::new_key(&instance_id, DESCRIPTION);
        let key = client.create_key(request.clone()).await.context("no key was made")?.key;
        let key_id = key.context("the answer holds no key")?.key_id;
        let mut applications = Vec::new();
        for (zone, rate) in [(stays, plan.rate / 2), (zone, plan.rate.div_ceil(2))] {
            let own = up::client_in(layout, up::CALLER, zone)?;
            own.require_state_index(client.state_index());
            applications.push(Application::start(&own, &key_id, rate).await?);
        }
        let writer = Some(Writer::start(&client, request, KEY_PACE));
        let watch = Watch::start(layout)?;
        progress(&format!(
            "node {} in zone {} leads; {} calls a second and a new key every {} ms, for {} s",
            leader.name,
            leader.zone,
            plan.rate,
            KEY_PACE.as_millis(),
            BEFORE.as_secs()
        ));
        Ok(Self {
            layout,
            plan,
            instance_id,
            client,
            applications,
            writer,
            watch,
            began: Instant::now(),
            lost: None,
            moments: None,
            back: None,
        })
    }

    /// Loses the zone for its time.
    async fn lose(&mut self) -> anyhow::Result<()> {
        sleep(BEFORE).await;
        let Plan { zone, how, lasts, ref leader, .. } = self.plan;
        let leads = &loss::leader(self.layout).await?.name;
        ensure!(
            leads == leader,
            "the lead went from {leader} to {leads} by itself; nothing was lost, try again"
        );
        let lost = self.lost.insert(Lost::inflict(self.layout, zone, how)?);
        let (begun, _) = *self.moments.insert(lost.moments());
        let until = begun + lasts;
        progress(&match how {
            How::Kill => {
                format!("zone {zone} is lost for {} s: its processes are killed", lasts.as_secs())
            }
            How::Silent => format!(
                "zone {zone} is silent for {} s: its processes are stopped (SIGSTOP). That is what silence means in a \
                 development cluster: they answer nothing, and nobody is told; `make bench-failover` drops packets instead",
                lasts.as_secs()
            ),
        });
        let writer = self.writer.as_mut().context("nobody writes")?;
        match writer
            .until_acknowledged(begun, until.saturating_duration_since(Instant::now()))
            .await
        {
            true => {
                progress(&format!("keys are made again, after {} ms", begun.elapsed().as_millis()))
            }
            false => progress("no key was made all that time"),
        }
        sleep_until(until.into()).await;
        Ok(())
    }

    /// Gets the zone back, if it is lost, and waits until the cluster is healthy.
    async fn bring_back(&mut self, signals: &mut Interrupts) -> Result<(), Stop> {
        let Some(lost) = self.lost.take() else { return Ok(()) };
        let zone = self.plan.zone;
        let back = lost.restore()?;
        self.back = Some(back);
        progress(match self.plan.how {
            How::Kill => "the zone's processes are started again",
            How::Silent => "the zone's processes go on",
        });
        signals.unless(self.until_healthy()).await?;
        progress(&format!(
            "zone {zone} is counted on again (mode Sync), {:.2} s after that",
            back.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    async fn until_healthy(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        for node in self.layout.zone(self.plan.zone)? {
            up::wait_until_serving(self.layout, node).await?;
        }
        let admin = up::client(self.layout, up::ADMIN)?;
        loop {
            match cluster::trouble(&admin).await {
                Ok(None) => return Ok(()),
                Ok(Some(trouble)) if began.elapsed() > HEALTHY_MAX => {
                    bail!("all processes run again, and the cluster is not healthy: {trouble}")
                }
                Err(error) if began.elapsed() > HEALTHY_MAX => {
                    return Err(error)
                        .context("all processes run again, and nobody says how the cluster is");
                }
                Ok(Some(_)) | Err(_) => sleep(LOOK_PACE).await,
            }
        }
    }

    /// Ends the load, looks for the keys and disables some.
    async fn measure(&mut self) -> anyhow::Result<Measured> {
        sleep(AFTER).await;
        let writes = self.writer.take().context("nobody writes")?.stop().await?;
        let mut calls = Vec::new();
        for application in self.applications.drain(..) {
            calls.extend(application.stop().await?);
        }
        calls.sort_unstable_by_key(|call| call.due);
        let Plan { zone, how, rate, ref leader, led_there, .. } = self.plan;
        let story = Story {
            zone: zone.to_owned(),
            how,
            leader: leader.clone(),
            led_there,
            rate,
            began: self.began,
            lost: self.moments.context("nothing was lost")?,
            back: self.back.context("nothing came back")?,
            ended: Instant::now(),
            calls,
            writes,
            sights: self.watch.sights(),
        };
        let made: Vec<&Made> =
            story.writes.iter().filter_map(|write| write.made.as_ref().ok()).collect();
        progress(&format!(
            "{} keys were acknowledged: each is used on every data node",
            made.len()
        ));
        let lost = keys::lost(self.layout, &made).await?;
        let few = &made[..made.len().min(DISABLES)];
        progress(&format!("{} of them are disabled, one after the other", few.len()));
        let disabled = keys::disable(self.layout, &self.client, few).await?;
        Ok(Measured { story, lost, disabled })
    }

    /// Ends what still runs and disables the drill's keys.
    async fn close(mut self) -> anyhow::Result<()> {
        // The others end by themselves; this one may be making a key.
        if let Some(writer) = self.writer.take() {
            writer.stop().await?;
        }
        let left = keys::clean_up(&self.client, &self.instance_id).await;
        let left = left.context("the drill's keys are not disabled; the next drill does it")?;
        progress(&format!(
            "the last {left} keys of the drill are disabled; keys cannot be deleted yet, so all of them stay"
        ));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zone_is_chosen_by_name_or_by_the_leader() {
        assert_eq!(Choice::A.zones("b"), ("a", "b"));
        assert_eq!(Choice::B.zones("b"), ("b", "a"));
        assert_eq!(Choice::Leader.zones("b"), ("b", "a"));
        assert_eq!(Choice::Other.zones("b"), ("a", "b"));
        assert_eq!(Choice::Other.zones("a"), ("b", "a"));
    }
}
