//! Measures subjects in turns, so that what drifts, drifts for all of them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::sleep;

use crate::bench::{Bench, Effort};
use crate::load::sample::Sample;
use crate::load::tally::Tally;
use crate::load::window::{Timing, Window};
use crate::profile::Profile;
use crate::subject::{Stage, Subject};

/// How often a measurement is taken again in bad weather.
const TRIES: usize = 3;

impl Bench {
    /// Measures subjects in turns, A B A B, prints and returns the median of each.
    pub(crate) async fn compare<const N: usize>(
        &self,
        title: &str,
        effort: Effort,
        subjects: [&Subject; N],
    ) -> anyhow::Result<[Sample; N]> {
        let mut samples: [Vec<Sample>; N] = std::array::from_fn(|_| Vec::new());
        for _ in 0..self.rounds(effort) {
            for (subject, samples) in subjects.iter().zip(&mut samples) {
                samples.push(self.measure(subject, effort).await?);
            }
        }
        let medians = samples.map(|samples| Sample::median(&samples));
        for (subject, median) in subjects.iter().zip(&medians) {
            println!("{title:28} {:14} {median}", subject.server.name);
            if let Some(folder) = self.profiles() {
                self.profile(subject, folder, title).await?;
            }
        }
        Ok(medians)
    }

    /// Measures a subject once; in bad weather again, and then the best of the bad counts.
    pub(crate) async fn measure(
        &self,
        subject: &Subject,
        effort: Effort,
    ) -> anyhow::Result<Sample> {
        let stage = Stage::set(self, subject)?;
        let mut best: Option<Sample> = None;
        for _ in 0..if self.is_quick() { 1 } else { TRIES } {
            let sample = once(&stage, subject, self.timing(effort)).await?;
            if sample.weather.is_fair() {
                return Ok(sample);
            }
            let is_better = |best: &Sample| sample.weather.badness() < best.weather.badness();
            if best.as_ref().is_none_or(is_better) {
                best = Some(sample);
            }
        }
        best.context("nothing was measured")
    }

    /// Keeps a subject under load while perf looks.
    pub(crate) async fn profile(
        &self,
        subject: &Subject,
        folder: &Path,
        title: &str,
    ) -> anyhow::Result<()> {
        let _stage = Stage::set(self, subject)?;
        let connections = subject.connect().await?;
        let window = Window::new();
        let tally = Tally::new(&window);
        let what = format!("{} {title}", subject.server.name);
        let mut profile = Profile::start(subject.server.process, folder, &what)?;
        let until_done = async {
            while profile.is_running()? {
                sleep(Duration::from_millis(50)).await;
            }
            window.end();
            anyhow::Ok(())
        };
        tokio::try_join!(until_done, subject.drive(&connections, &tally))?;
        println!("{:28} profile in {}", "", profile.finish()?.display());
        Ok(())
    }
}

async fn once(stage: &Stage, subject: &Subject, timing: Timing) -> anyhow::Result<Sample> {
    let connections = subject.connect().await?;
    let window = Window::new();
    let tally = Tally::new(&window);
    let (passed, ()) =
        tokio::try_join!(stage.run(&window, timing), subject.drive(&connections, &tally),)?;
    if let Some(refusal) = tally.first_refusal() {
        bail!("{} refused {}: {refusal}", subject.server.name, subject.call.method);
    }
    Ok(Sample::of(&tally, &passed))
}
