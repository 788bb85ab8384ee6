//! CreateKey, replicated to five nodes and synced, beside etcd's put to three on the same disk.
//!
//! Five nodes, or three of etcd, and the load share both cores: what replication costs all of them counts.

use twinkeep_client::v1;
use twinkeep_report::Target;
use twinkeep_tests::Node;

use super::requests::CREATE_KEY;
use crate::bench::{Bench, Effort};
use crate::load::closed::Call;
use crate::load::wire::frame;
use crate::servers::cluster::{APP, ask};
use crate::servers::etcd::{self, Etcd};
use crate::subject::{Load, Subject};

/// Calls in flight.
const IN_FLIGHT: Load = Load::Unary(64);

/// CreateKey at the leader and at a follower, beside etcd's leader.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let at_leader = create_at(bench, &bench.leader).await?;
    let at_follower = create_at(bench, &bench.follower).await?;
    let title = "replicated write × 64";
    let (leader, follower) = if Etcd::is_installed() {
        let etcd = Etcd::start(bench.folder.path())?;
        let put = Subject {
            server: etcd.leader().await?,
            call: etcd::put(),
            load: IN_FLIGHT,
            spread: etcd.processes()?,
        };
        let subjects = [&at_leader, &at_follower, &put];
        let [leader, follower, put] = bench.compare(title, Effort::Gate, subjects).await?;
        let ratio = leader.rate / put.rate;
        bench.report.add("CreateKey × 64, to etcd's put", ratio, "×", Target::AtLeast(1.0));
        bench.show("etcd put 256 B × 64", put.rate, "/s");
        (leader, follower)
    } else {
        println!("etcd is not installed (scripts/setup bench): the comparison is a miss");
        bench.report.add("CreateKey × 64, to etcd's put", f64::NAN, "×", Target::AtLeast(1.0));
        let subjects = [&at_leader, &at_follower];
        bench.compare(title, Effort::Gate, subjects).await?.into()
    };
    bench.show("CreateKey × 64 at the leader", leader.rate, "/s");
    bench.show("CreateKey × 64, follower to leader", follower.rate / leader.rate, "×");
    Ok(())
}

async fn create_at(bench: &Bench, node: &Node) -> anyhow::Result<Subject> {
    let server = bench.nodes.server(node, APP)?;
    let request = bench.nodes.cluster().new_key()?;
    let _: v1::CreateKeyResponse = ask(&server, CREATE_KEY, &request).await?;
    Ok(Subject {
        server,
        call: Call::same(CREATE_KEY, frame(&request)),
        load: IN_FLIGHT,
        spread: bench.nodes.processes()?,
    })
}
