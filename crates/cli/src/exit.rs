//! What a failure tells the person and the script.

use std::fmt;
use std::io;
use std::process::ExitCode;

use twinkeep_client::{BuildError, Error, Outcome};

/// What went wrong, with a way out that its place alone knows: context of an error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Advice {
    pub(crate) what: &'static str,
    pub(crate) way_out: &'static str,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

/// Prints an error, what to do about it, and returns the exit code; see the table in `main.rs`.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    // Whoever reads our output has seen enough.
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    eprintln!("twinkeep: {error:#}");
    if let Some(advice) = advice(error) {
        eprintln!("{advice}");
    }
    ExitCode::from(code(error))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn code(error: &anyhow::Error) -> u8 {
    let Some(error) = error.chain().find_map(|cause| cause.downcast_ref::<Error>()) else {
        return 1;
    };
    match error {
        Error::Invalid(_) | Error::Exhausted { retry_after: None, .. } => 2,
        Error::Unauthenticated(_) | Error::CertificateRefused { .. } | Error::Denied(_) => 3,
        Error::NotFound(_) | Error::Exists(_) | Error::Precondition(_) | Error::Aborted(_) => 4,
        error if error.is_retryable() => match error.outcome() {
            Outcome::NotDone => 5,
            Outcome::Unknown => 6,
        },
        // One node refused it, and another one may have done it before.
        Error::Other { outcome: Outcome::Unknown, .. } => 6,
        _ => 1,
    }
}

fn advice(error: &anyhow::Error) -> Option<&'static str> {
    if let Some(advice) = error.downcast_ref::<Advice>() {
        return Some(advice.way_out);
    }
    let called = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    let built = error.chain().find_map(|cause| cause.downcast_ref::<BuildError>());
    Some(match (called, built) {
        (Some(Error::Denied(_)), _) => {
            "an admin sees roles with `twinkeep access list` and gives them with `twinkeep access grant`; in a \
             development cluster add `--as admin`"
        }
        (Some(Error::Unauthenticated(_)), _) => {
            "an admin issues a certificate with `twinkeep access issue-certificate`"
        }
        (Some(Error::CertificateRefused { .. }), _) => {
            "`twinkeep context show` says which certificate, private key and root are used"
        }
        (Some(error), _)
            if error.outcome() == Outcome::Unknown
                && (error.is_retryable() || matches!(error, Error::Other { .. })) =>
        {
            "it may have happened: look first, for example with `twinkeep key list`"
        }
        (Some(Error::Unavailable { .. } | Error::DeadlineExceeded { .. }), _) => {
            "see `twinkeep cluster status`; is the cluster running and unsealed?"
        }
        (Some(Error::NotFound(_)), _) => {
            "see what there is with `twinkeep key list`, `twinkeep instance list` or `twinkeep cluster members`"
        }
        (Some(Error::Invalid(_)), _) => "`--help` says what the command takes",
        (Some(Error::Aborted(_)), _) => "another change came first; look at it and try again",
        (None, Some(BuildError::Identity(_))) => {
            "an admin issues a certificate with `twinkeep access issue-certificate`"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use twinkeep_client::{Fault, Refusal, Refuser};

    use super::*;

    fn code_of(error: Error) -> u8 {
        code(&anyhow::Error::from(error).context("the key was not made"))
    }

    fn refused() -> Error {
        let (address, by) = ("127.0.1.1:7100".to_owned(), Refuser::Node);
        let refusal = Refusal { address, by, fault: Fault::NotValidNow };
        Error::CertificateRefused { refusal, others: 3 }
    }

    #[test]
    fn refused_certificate_is_one_line_and_the_next_says_where_it_comes_from() {
        let error = anyhow::Error::from(refused());
        let line = format!("{error:#}");
        for part in ["127.0.1.1:7100 refuses", "expired", "issue-certificate NAME", "3 other nodes"]
        {
            assert!(line.contains(part), "{line}");
        }
        assert!(advice(&error).is_some_and(|advice| advice.contains("twinkeep context show")));
    }

    #[test]
    fn codes_are_those_of_the_table() {
        let text = || "why".to_owned();
        let unavailable = |outcome| Error::Unavailable { message: text(), attempts: 3, outcome };
        assert_eq!(code_of(Error::Invalid(text())), 2);
        assert_eq!(code_of(Error::Denied(text())), 3);
        assert_eq!(code_of(Error::Unauthenticated(text())), 3);
        assert_eq!(code_of(refused()), 3);
        assert_eq!(code_of(Error::NotFound(text())), 4);
        assert_eq!(code_of(Error::Aborted(text())), 4);
        let exhausted = |retry_after| Error::Exhausted { message: text(), retry_after };
        assert_eq!(code_of(exhausted(None)), 2);
        assert_eq!(code_of(exhausted(Some(std::time::Duration::from_secs(1)))), 5);
        assert_eq!(code_of(unavailable(Outcome::NotDone)), 5);
        assert_eq!(code_of(unavailable(Outcome::Unknown)), 6);
        let other = Error::Other {
            code: tonic::Code::PermissionDenied,
            message: text(),
            outcome: Outcome::Unknown,
        };
        assert_eq!(code_of(other), 6);
        let internal = Error::Internal { message: text(), outcome: Outcome::Unknown };
        assert_eq!(code_of(internal), 1);
        assert_eq!(code(&anyhow::anyhow!("no file")), 1);
    }

    #[test]
    fn way_out_of_the_place_comes_first_and_is_not_in_the_error() {
        let place = Advice { what: "not unsealed", way_out: "use the socket" };
        let error = anyhow::Error::from(Error::NotFound("gone".to_owned())).context(place);
        assert_eq!(advice(&error), Some("use the socket"));
        assert_eq!(format!("{error:#}"), "not unsealed: gone");
        assert_eq!(code(&error), 4);
    }

    #[test]
    fn reader_who_left_is_no_failure() {
        let gone = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_broken_pipe(&gone.context("cannot write")));
        assert!(!is_broken_pipe(&anyhow::anyhow!("Broken pipe")));
    }
}
