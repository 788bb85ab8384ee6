//! An open secret exists once.

fn needs<T: Clone>() {}

fn main() {
    needs::<twinkeep_envelope::OpenKey>();
    needs::<twinkeep_envelope::SecretBytes>();
}
