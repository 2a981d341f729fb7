internal import ArgumentParser

/// Where the password of the upstream's user comes from, for commands that connect to the upstream.
struct PasswordOptions: ParsableArguments {
  @Option(
    name: .customLong("password-file"),
    help: ArgumentHelp(
      "File with the password of the upstream's user on its first line, where the URL has none (else: SLUICE_PASSWORD in the environment, or the systemd credential sluice-password).",
      valueName: "file"))
  var file: String?
}
