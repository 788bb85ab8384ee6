//! The way to a node, which can be cut: nothing gets through, and nobody is told. Connections stay open and new ones
//! come about, as far as TCP is concerned, as when packets are dropped behind a router.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::Node;

/// A way to a node.
pub(crate) struct Wire {
    /// Where it begins.
    pub(crate) address: String,
    cut: Arc<watch::Sender<bool>>,
    task: JoinHandle<()>,
}

impl Wire {
    pub(crate) async fn to(node: &Node) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let cut = Arc::new(watch::Sender::new(false));
        let (far, is_cut) = (node.address.clone(), Arc::clone(&cut));
        let task = tokio::spawn(async move {
            let mut ways = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let (far, is_cut) = (far.clone(), is_cut.subscribe());
                ways.spawn(join(near, far, is_cut));
            }
        });
        Self { address, cut, task }
    }

    pub(crate) fn cut(&self) {
        self.cut.send_replace(true);
    }

    pub(crate) fn mend(&self) {
        self.cut.send_replace(false);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn join(near: TcpStream, far: String, mut cut: watch::Receiver<bool>) {
    whole(&mut cut).await;
    let Ok(far) = TcpStream::connect(far).await else { return };
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = carry(near_in, far_out, cut.clone()) => {}
        () = carry(far_in, near_out, cut.clone()) => {}
    }
    // That it ended does not get through either.
    whole(&mut cut).await;
}

async fn whole(cut: &mut watch::Receiver<bool>) {
    cut.wait_for(|is_cut| !is_cut).await.ok();
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cut: watch::Receiver<bool>) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else { return };
        // What had left when it was cut is lost until it is mended, as TCP would repeat it then.
        whole(&mut cut).await;
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
