// No editor and no HTTP server: only the flow runs.
module.exports = {
    flowFile: "flows.json",
    httpAdminRoot: false,
    httpNodeRoot: false,
    functionExternalModules: true,
    externalModules: { autoInstall: false, modules: { allowInstall: false } },
    telemetry: { enabled: false, updateNotification: false },
    logging: { console: { level: "info", metrics: false, audit: false } },
};
