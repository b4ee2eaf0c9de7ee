//! The flags of `alluvium start`: one for each key of [`crate::config::keys`], and `--config`.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::keys::{CONFIG, KEYS, Key};
use crate::config::{Config, ConfigError, Flags, Variables};

/// What was typed after `start`.
#[derive(Clone, Debug, Default)]
pub struct StartArgs {
    flags: Flags,
}

impl StartArgs {
    /// What a node runs with: the file, the environment, and these flags.
    pub fn load(&self, variables: &Variables) -> Result<Config, ConfigError> {
        crate::config::load(&self.flags, variables)
    }
}

impl FromArgMatches for StartArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<StartArgs, clap::Error> {
        let mut args = StartArgs::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let names = KEYS.iter().map(|key| key.name).chain([CONFIG]);
        for name in names {
            if let Some(value) = matches.get_one::<String>(name) {
                self.flags.insert(name, value.clone());
            }
        }
        Ok(())
    }
}

impl Args for StartArgs {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .help("A TOML file of these keys, written with _ for -: data_dir = \"/srv/alluvium\"");
        let help = "Each flag is also a key of the file and a variable: --data-dir, data_dir, \
                    ALLUVIUM_DATA_DIR.\nA flag outdoes a variable, a variable the file.";
        command.args([config]).args(KEYS.iter().map(arg)).after_help(help)
    }

    fn augment_args_for_update(command: Command) -> Command {
        StartArgs::augment_args(command)
    }
}

fn arg(key: &'static Key) -> Arg {
    let help = match key.default {
        "" => key.help.to_owned(),
        default => format!("{} [default: {default}]", key.help),
    };
    let arg = Arg::new(key.name).long(key.flag).help(help);
    match key.value_name {
        Some(name) => arg.value_name(name),
        // `--insecure` and `--insecure=false` both.
        None => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("true|false")
            .action(ArgAction::Set),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn start(line: &str) -> Result<Config, String> {
        let cli = Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        let crate::cli::Command::Start(args) = cli.command else { panic!("{cli:?}") };
        args.load(&Variables::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_reach_the_configuration() {
        let line = "alluvium start --data-dir /d --listen 0.0.0.0:0 --insecure --name n1";
        let config = start(line).unwrap();
        assert_eq!(config.data_dir, std::path::Path::new("/d"));
        assert_eq!(config.listen.to_string(), "0.0.0.0:0");
        assert_eq!(config.name, "n1");
        assert!(start("alluvium start --listen 0.0.0.0:0 --insecure=false").is_err());
    }

    #[test]
    fn a_misspelt_flag_is_refused_with_the_nearest_one() {
        let message = start("alluvium start --data-dri x").unwrap_err();
        assert!(message.contains("'--data-dir'"), "{message}");
    }

    #[test]
    fn help_shows_every_key_with_its_default() {
        let help = Cli::try_parse_from(["alluvium", "start", "--help"]).unwrap_err().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for key in KEYS {
            assert_eq!(key.flag, key.name.replace('_', "-"));
            assert!(help.contains(&format!("--{}", key.flag)), "{}", key.name);
            assert!(help.contains("[default: "), "{}", key.name);
            assert!(help.contains(key.default), "{}", key.name);
        }
    }
}
