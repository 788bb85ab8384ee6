//! An open secret has no text.

fn needs<T: std::fmt::Display>() {}

fn main() {
    needs::<twinkeep_envelope::OpenKey>();
    needs::<twinkeep_envelope::SecretBytes>();
}
