//! One run in which all five nodes are restarted, one after the other, under load.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use twinkeep_tests::Node;

use super::load::writer::Write;
use super::load::{self, Load, ms};
use super::records::{Restart, RollingRun};
use super::site::Site;

/// Load before the first restart.
const WARM_UP: Duration = Duration::from_secs(1);
/// Pause between the end of a process and the start of the next one, as an upgrade has it, and after a return.
const PAUSE: Duration = Duration::from_millis(300);

/// The moments of a restart.
struct Moments {
    node: Node,
    led: bool,
    told: Instant,
    gone: Instant,
    started: Instant,
    back: Instant,
}

/// Restarts every node.
pub(crate) async fn run(site: &Site<'_>, number: u32) -> anyhow::Result<RollingRun> {
    site.until_whole().await?;
    let writer_zone = if number % 2 == 1 { "a" } else { "b" };
    let (applications, writer) = Load::start(site, writer_zone).await?.split();
    let began = Instant::now();
    sleep(WARM_UP).await;
    let mut restarts = Vec::new();
    for node in site.nodes() {
        restarts.push(restart(site, node).await?);
        sleep(PAUSE).await;
    }
    let lasted = began.elapsed();
    let done = writer.stop().await?;
    let calls = load::calls(&load::stop(applications).await?, began, lasted);
    let mut writes = load::writes(&done, began);
    writes.lost = site.lost(&done).await?;
    let answers = acknowledgements(&done);
    let usual = usual_gap(&answers);
    let restarts = restarts.into_iter().map(|moments| judge(moments, &answers, usual)).collect();
    Ok(RollingRun { restarts, usual_gap_ms: ms(usual), calls, writes })
}

async fn restart(site: &Site<'_>, node: &Node) -> anyhow::Result<Moments> {
    let led = site.until_whole().await?.name == node.name;
    let told = Instant::now();
    site.stop(node).await?;
    let gone = Instant::now();
    sleep(PAUSE).await;
    let started = Instant::now();
    site.start_node(node)?;
    site.until_whole().await?;
    Ok(Moments { node: node.clone(), led, told, gone, started, back: Instant::now() })
}

fn judge(moments: Moments, answers: &[Instant], usual: Duration) -> Restart {
    let Moments { node, led, told, gone, started, back } = moments;
    let gap = |from, to| ms(longest_gap(answers, from, to).saturating_sub(usual));
    Restart {
        node: node.name,
        led,
        exit_ms: ms(gone - told),
        return_ms: ms(back - started),
        stop_gap_ms: gap(told, started),
        return_gap_ms: gap(started, back),
    }
}

/// Returns when writes were acknowledged.
fn acknowledgements(done: &[Write]) -> Vec<Instant> {
    done.iter().filter(|write| write.key_id.is_ok()).map(|write| write.ended).collect()
}

/// Returns the median time between two acknowledgements.
fn usual_gap(answers: &[Instant]) -> Duration {
    let mut gaps: Vec<_> = answers.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    gaps.get(gaps.len() / 2).copied().unwrap_or_default()
}

/// Returns the longest time between two acknowledgements that reaches into a window.
fn longest_gap(answers: &[Instant], from: Instant, to: Instant) -> Duration {
    let touching = answers.windows(2).filter(|pair| pair[1] > from && pair[0] < to);
    touching.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gap_that_reaches_into_the_window_counts_and_others_do_not() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let answers: Vec<_> = [0, 90, 100, 110, 150, 160, 300].into_iter().map(at).collect();
        let gap = |from, to| longest_gap(&answers, at(from), at(to)).as_millis();
        assert_eq!(gap(95, 155), 40);
        assert_eq!(gap(50, 155), 90);
        assert_eq!(gap(120, 200), 140);
        assert_eq!(gap(400, 500), 0);
        assert_eq!(usual_gap(&answers).as_millis(), 40);
    }
}
