//! A real Prometheus, asked over its own interface.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for an answer over HTTP.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Longest wait for Prometheus to start.
const START_MAX: Duration = Duration::from_secs(60);

/// Returns one of Prometheus' programs: from the path, or where scripts/setup unpacked it. `None`, said in
/// one line, when there is none.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    folders.extend(cache.map(|cache| cache.join("twinkeep/prometheus/usr/bin")));
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        println!("skipped: there is no {name}; `scripts/setup test` fetches it");
    }
    found
}

/// Fetches a page over plain HTTP.
pub fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    // By HTTP 1.0 the answer comes in one piece and ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no head")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "{path}: {status}: {body}");
    Ok(body.to_owned())
}

/// A Prometheus that runs until it is dropped.
#[derive(Debug)]
pub struct Prometheus {
    process: Child,
    address: SocketAddr,
    data: TempDir,
}

/// What a rule says.
#[derive(Debug)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Its expression, as Prometheus writes it.
    pub query: String,
    /// Whether it is an alert.
    pub is_alert: bool,
    /// The last error of its evaluation.
    pub error: Option<String>,
}

impl Prometheus {
    /// Starts a Prometheus with a configuration, on a free port of the loopback.
    pub fn start(program: &Path, config: &Path) -> anyhow::Result<Self> {
        let data = tempfile::Builder::new().prefix("twinkeep-prometheus-").tempdir()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let messages = std::fs::File::create(data.path().join("messages.log"))?;
        let process = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(messages)
            .spawn()?;
        let mut this = Self { process, address, data };
        let started = Instant::now();
        while get(address, "/-/ready").is_err() {
            if this.process.try_wait()?.is_some() || started.elapsed() > START_MAX {
                let said = std::fs::read_to_string(this.data.path().join("messages.log"))?;
                bail!("prometheus does not start:\n{said}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(this)
    }

    /// Returns the series that a query gives now.
    pub fn query(&self, query: &str) -> anyhow::Result<Vec<Value>> {
        let data = self.api(&format!("query?query={}", percent_encoded(query)))?;
        let result = data["result"].as_array();
        Ok(result.with_context(|| format!("{query} has no result"))?.clone())
    }

    /// Returns all rules.
    pub fn rules(&self) -> anyhow::Result<Vec<Rule>> {
        let data = self.api("rules")?;
        let groups = data["groups"].as_array().context("no groups")?;
        let rules = groups.iter().filter_map(|group| group["rules"].as_array()).flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let rule = |rule: &Value| Rule {
            name: text(&rule["name"]),
            query: text(&rule["query"]),
            is_alert: rule["type"] == "alerting",
            error: rule["lastError"].as_str().map(str::to_owned).filter(|e| !e.is_empty()),
        };
        Ok(rules.map(rule).collect())
    }

    fn api(&self, path: &str) -> anyhow::Result<Value> {
        let body = get(self.address, &format!("/api/v1/{path}"))?;
        let answer: Value = serde_json::from_str(&body)?;
        ensure!(answer["status"] == "success", "{path}: {body}");
        Ok(answer["data"].clone())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It has nothing to keep.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn percent_encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let encoded = text.bytes().map(|byte| {
        if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    });
    encoded.collect()
}
