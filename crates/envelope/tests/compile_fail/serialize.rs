//! An open secret has no serde form.

fn needs<T: serde::Serialize>() {}

fn main() {
    needs::<twinkeep_envelope::OpenKey>();
    needs::<twinkeep_envelope::SecretBytes>();
}
