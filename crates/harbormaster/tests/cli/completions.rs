//! What shells complete.

use crate::command::User;

/// DPS-CLI-16
#[test]
fn every_shell_gets_a_script_that_knows_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = User::new().run(&["completions", shell]).done();
        for word in ["enrollment-group", "registration-id-prefix", "sealing-key-file", "harbormaster"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    User::new().run(&["completions", "command.com"]).failed(64, &["bash"]);
}
