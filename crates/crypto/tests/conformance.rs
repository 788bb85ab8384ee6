//! The software backend passes the tests that every backend has to pass.

use tokio::sync::OnceCell;
use twinkeep_crypto::SoftwareBackend;
use twinkeep_crypto::conformance::Subject;

async fn subject() -> &'static Subject {
    static SUBJECT: OnceCell<Subject> = OnceCell::const_new();
    SUBJECT
        .get_or_init(|| async {
            Subject::new(SoftwareBackend::new().expect("the operating system gives random bytes"))
                .await
        })
        .await
}

twinkeep_crypto::conformance_tests!(subject);
