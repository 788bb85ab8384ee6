//! The order to admit a node, as the file that people look at, sign and hand on.
//!
//! TOML, so that an operator sees what they sign; unknown fields are refused. The signing request travels
//! along, and [`OrderFile::parse`] holds it against the digest that is signed.
//!
//! | field         | holds                                                            |
//! |---------------|------------------------------------------------------------------|
//! | `cluster`     | `clu-` and 32 hex digits                                         |
//! | `incarnation` | life of the cluster                                              |
//! | `spki-sha256` | SHA-256 of the node's public key (SPKI DER), 64 lower-case digits |
//! | `role`        | `data` or `witness`                                              |
//! | `zone`        | where the node has to stand                                      |
//! | `expires`     | date and time in UTC, written `…Z`, whole milliseconds           |
//! | `csr`         | the node's signing request, PEM; not signed but for its key      |

use std::fmt;

use serde::{Deserialize, Serialize};
use time::{Month, OffsetDateTime};
use toml::value::{Date, Datetime, Offset, Time};
use twinkeep_core::admission::AdmissionOrder;
use twinkeep_core::clock::UnixMs;
use twinkeep_core::id::Incarnation;

use crate::key::{PublicKey, RequestError};
use crate::pem::{NotPem, read_certificate_request};

/// An order with the signing request that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderFile {
    order: AdmissionOrder,
    csr_pem: String,
}

/// Why a text is no order.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// Longer than [`OrderFile::BYTES_MAX`].
    #[error("an order has at most {} bytes", OrderFile::BYTES_MAX)]
    TooLong,
    /// Not TOML with these fields.
    #[error("the text is no order: {0}")]
    Toml(String),
    /// A field is not written as it should be.
    #[error("{field}: {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The signing request is not PEM.
    #[error("csr")]
    Pem(#[from] NotPem),
    /// The signing request is none.
    #[error("csr")]
    Request(#[from] RequestError),
    /// What was signed is about another key.
    #[error("the signing request is for another key than spki-sha256 says: write a new order")]
    OtherKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Fields {
    cluster: String,
    incarnation: u64,
    spki_sha256: String,
    role: String,
    zone: String,
    expires: Datetime,
    csr: String,
}

impl OrderFile {
    /// Longest text, in bytes: twice the longest signing request.
    pub const BYTES_MAX: usize = 2 * PublicKey::REQUEST_BYTES_MAX;

    /// Writes an order for the node with the key of a signing request.
    ///
    /// # Errors
    /// [`OrderError`] when the request is for another key than the order, or the expiry is beyond the year
    /// 9999.
    pub fn new(order: AdmissionOrder, csr_pem: String) -> Result<Self, OrderError> {
        date_time(order.expires_ms)?;
        if requested_key(&csr_pem)?.sha256() != order.spki_sha256 {
            return Err(OrderError::OtherKey);
        }
        Ok(Self { order, csr_pem })
    }

    /// Reads an order's text.
    ///
    /// # Errors
    /// [`OrderError`] with the first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, OrderError> {
        if text.len() > Self::BYTES_MAX {
            return Err(OrderError::TooLong);
        }
        // The message alone: the parser would show the line, whatever stands in it.
        let fields: Fields =
            toml::from_str(text).map_err(|e| OrderError::Toml(plain(e.message())))?;
        let mut spki_sha256 = [0; 32];
        hex::decode_to_slice(&fields.spki_sha256, &mut spki_sha256)
            .map_err(|_| wrong("spki-sha256", "not 64 hex digits"))?;
        let order = AdmissionOrder {
            cluster: fields.cluster.parse().map_err(|e| wrong("cluster", e))?,
            incarnation: Incarnation::new(fields.incarnation)
                .map_err(|e| wrong("incarnation", e))?,
            spki_sha256,
            role: fields.role.parse().map_err(|e| wrong("role", e))?,
            zone: fields.zone.parse().map_err(|e| wrong("zone", e))?,
            expires_ms: unix_ms(&fields.expires)?,
        };
        Self::new(order, fields.csr)
    }

    /// Writes the text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let order = &self.order;
        let fields = Fields {
            cluster: order.cluster.to_string(),
            incarnation: order.incarnation.get(),
            spki_sha256: hex::encode(order.spki_sha256),
            role: order.role.to_string(),
            zone: order.zone.to_string(),
            expires: date_time(order.expires_ms).expect("`new` has written it once"),
            csr: self.csr_pem.clone(),
        };
        let fields =
            toml::to_string_pretty(&fields).expect("strings, a number and a date are TOML");
        format!(
            "# Lets one node join the cluster. For an operator: compare spki-sha256 with what the node itself\n\
             # prints (`twinkeepd identity`), then `twinkeep operator approve --key FILE --name YOU THIS-FILE`.\n\
             {fields}"
        )
    }

    /// Returns what is signed.
    #[must_use]
    pub fn order(&self) -> &AdmissionOrder {
        &self.order
    }

    /// Returns the node's signing request, PEM.
    #[must_use]
    pub fn csr_pem(&self) -> &str {
        &self.csr_pem
    }
}

/// Shows what is signed, a line for each field.
impl fmt::Display for OrderFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AdmissionOrder { cluster, incarnation, spki_sha256, role, zone, expires_ms } =
            &self.order;
        let expires = date_time(*expires_ms).map_err(|_| fmt::Error)?;
        writeln!(f, "cluster      {cluster}, incarnation {incarnation}")?;
        writeln!(f, "node's key   {}", hex::encode(spki_sha256))?;
        writeln!(f, "role         {role}")?;
        writeln!(f, "zone         {zone}")?;
        write!(f, "expires      {expires}")
    }
}

/// Tells whether a text is an order to recover a cluster rather than one to admit a node.
#[must_use]
pub fn is_recovery(text: &str) -> bool {
    let table = toml::from_str::<toml::Table>(text);
    table.is_ok_and(|table| table.get("order").and_then(toml::Value::as_str) == Some("recovery"))
}

/// Reads the public key out of a signing request, PEM.
///
/// # Errors
/// [`OrderError::Pem`] and [`OrderError::Request`].
pub fn requested_key(csr_pem: &str) -> Result<PublicKey, OrderError> {
    let request = read_certificate_request(csr_pem.as_bytes())?;
    Ok(PublicKey::of_request(&request)?)
}

pub(crate) fn wrong(field: &'static str, problem: impl fmt::Display) -> OrderError {
    OrderError::Field { field, problem: plain(&problem.to_string()) }
}

/// Makes text of an order safe for a terminal: whoever wrote it must not move the operator's cursor.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

pub(crate) fn date_time(unix_ms: UnixMs) -> Result<Datetime, OrderError> {
    let beyond = || wrong("expires", "beyond the year 9999");
    let nanos = i128::from(unix_ms) * 1_000_000;
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| beyond())?;
    let year = u16::try_from(at.year()).map_err(|_| beyond())?;
    Ok(Datetime {
        date: Some(Date { year, month: at.month().into(), day: at.day() }),
        time: Some(Time {
            hour: at.hour(),
            minute: at.minute(),
            second: at.second(),
            nanosecond: at.nanosecond(),
        }),
        offset: Some(Offset::Z),
    })
}

pub(crate) fn unix_ms(written: &Datetime) -> Result<UnixMs, OrderError> {
    let wrong = || wrong("expires", "write date and time in UTC, for example 2027-01-15T08:00:00Z");
    let Datetime { date: Some(date), time: Some(time), offset: Some(Offset::Z) } = written else {
        return Err(wrong());
    };
    let month = Month::try_from(date.month).map_err(|_| wrong())?;
    let day = time::Date::from_calendar_date(date.year.into(), month, date.day);
    let clock = time::Time::from_hms_nano(time.hour, time.minute, time.second, time.nanosecond);
    let (Ok(day), Ok(clock)) = (day, clock) else { return Err(wrong()) };
    let nanos = OffsetDateTime::new_utc(day, clock).unix_timestamp_nanos();
    if nanos % 1_000_000 != 0 {
        return Err(wrong());
    }
    UnixMs::try_from(nanos / 1_000_000).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use twinkeep_core::id::ClusterId;
    use twinkeep_core::topology::NodeRole;

    use super::*;
    use crate::key::PrivateKey;
    use crate::pem;

    fn csr() -> String {
        pem::certificate_request(&PrivateKey::generate().unwrap().certificate_request().unwrap())
    }

    fn file() -> OrderFile {
        let csr_pem = csr();
        let order = AdmissionOrder {
            cluster: ClusterId::from_bytes([0x10; 16]),
            incarnation: Incarnation::FIRST,
            spki_sha256: requested_key(&csr_pem).unwrap().sha256(),
            role: NodeRole::Data,
            zone: "zone-b".parse().unwrap(),
            expires_ms: 1_800_000_000_000,
        };
        OrderFile::new(order, csr_pem).unwrap()
    }

    #[test]
    fn order_is_read_as_it_is_written_to_the_millisecond() {
        let file = file();
        assert!(file.to_text().contains("expires = 2027-01-15T08:00:00Z\n"), "{}", file.to_text());
        // The last one is the end of the year 9999.
        for expires_ms in [0, 1, 1_800_000_000_123, 253_402_300_799_999] {
            let order = AdmissionOrder { expires_ms, ..file.order.clone() };
            let file = OrderFile::new(order, file.csr_pem.clone()).unwrap();
            assert_eq!(OrderFile::parse(&file.to_text()).unwrap(), file);
        }
        let order = AdmissionOrder { expires_ms: u64::MAX, ..file.order.clone() };
        assert!(OrderFile::new(order, file.csr_pem).is_err());
    }

    #[test]
    fn people_are_shown_every_field_that_is_signed() {
        let file = file();
        let digest = hex::encode(file.order.spki_sha256);
        assert_eq!(
            file.to_string(),
            format!(
                "cluster      clu-10101010101010101010101010101010, incarnation 1\n\
                 node's key   {digest}\n\
                 role         data\n\
                 zone         zone-b\n\
                 expires      2027-01-15T08:00:00Z"
            )
        );
    }

    #[test]
    fn signing_request_of_another_key_is_refused() {
        let file = file();
        let other = OrderFile { csr_pem: csr(), ..file.clone() };
        assert!(matches!(OrderFile::parse(&other.to_text()), Err(OrderError::OtherKey)));
        assert!(matches!(OrderFile::new(file.order, csr()), Err(OrderError::OtherKey)));
    }

    #[test]
    fn text_that_is_not_exactly_an_order_is_refused_by_its_field() {
        let text = file().to_text();
        for (from, to, part) in [
            ("incarnation = 1\n", "", "the text is no order"),
            ("incarnation = 1\n", "incarnation = 0\n", "incarnation: "),
            ("incarnation = 1\n", "incarnation = 1\nvoter = true\n", "the text is no order"),
            ("clu-10", "key-10", "cluster: "),
            ("\"data\"", "\"leader\"", "role: "),
            ("\"data\"", "\"\\u001b[2J\"", "role: "),
            ("role = ", "\"\\u001b[2J\" = 1\nrole = ", "the text is no order"),
            ("\"zone-b\"", "\"Zone B\"", "zone: "),
            ("08:00:00Z", "08:00:00+01:00", "expires: "),
            ("08:00:00Z", "08:00:00", "expires: "),
            ("08:00:00Z", "08:00:00.0001Z", "expires: "),
            ("spki-sha256 = \"", "spki-sha256 = \"00", "spki-sha256: "),
            ("-----BEGIN", "----BEGIN", "csr"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            let error = OrderFile::parse(&changed).unwrap_err().to_string();
            assert!(error.starts_with(part), "{from} to {to}: {error}");
            assert!(!error.contains(char::is_control), "{error:?}");
        }
        let long = "#".repeat(OrderFile::BYTES_MAX + 1);
        assert!(matches!(OrderFile::parse(&long), Err(OrderError::TooLong)));
    }
}
