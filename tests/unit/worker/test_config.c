#include <errno.h>
#include <unistd.h>

#include "tests/lib/check.h"
#include "worker/io/config.h"
#include "worker/io/pool_file.h"

/* --- pool files ---------------------------------------------------------------------------- */

static struct worker_pool_file parsed(const char *json)
{
    struct worker_pool_file f;
    struct base_error err;
    int rc = worker_pool_file_parse(json, strlen(json), &f, &err);
    if (rc != 0) {
        (void)fprintf(stderr, "%s\n", err.text);
    }
    CHECK_EQ(rc, 0);
    return f;
}

static bool warned(const struct worker_pool_file *f, const char *what)
{
    size_t n = base_buf_size(&f->warnings);
    return n > 0 && memmem(base_buf_data(&f->warnings), n, what, strlen(what)) != NULL;
}

static void refused(const char *json, const char *path)
{
    struct worker_pool_file f;
    struct base_error err = {0, ""};
    CHECK_EQ(worker_pool_file_parse(json, strlen(json), &f, &err), BASE_EINVAL);
    if (strncmp(err.text, path, strlen(path)) != 0) {
        (void)fprintf(stderr, "%s\nsays: %s\n", json, err.text);
    }
    CHECK(strncmp(err.text, path, strlen(path)) == 0);
}

TEST(the_shape_of_the_arm_resource)
{
    struct worker_pool_file f = parsed(
        "{\"name\":\"python\",\"location\":\"local\",\"properties\":{"
        "\"containerType\":\"PythonLTS\",\"poolManagementType\":\"Dynamic\","
        "\"scaleConfiguration\":{\"maxConcurrentSessions\":50,\"readySessionInstances\":7},"
        "\"dynamicPoolConfiguration\":{\"lifecycleConfiguration\":{\"lifecycleType\":\"Timed\","
        "\"cooldownPeriodInSeconds\":600}},"
        "\"sessionNetworkConfiguration\":{\"status\":\"EgressDisabled\"},"
        "\"quotaConfiguration\":{\"maxConcurrentExecutions\":40,"
        "\"maxConcurrentSessionsPerTenant\":5,\"maxConcurrentExecutionsPerTenant\":20},"
        "\"resources\":{\"cpu\":1.5,\"memory\":\"0.5Gi\"}}}");
    CHECK_EQ(f.spec.whole.max[WORKER_QUOTA_EXECUTIONS], 40);
    CHECK_EQ(f.spec.whole.max[WORKER_QUOTA_SESSIONS], 0);
    CHECK_EQ(f.spec.each.max[WORKER_QUOTA_SESSIONS], 5);
    CHECK_EQ(f.spec.each.max[WORKER_QUOTA_EXECUTIONS], 20);
    CHECK_STR(f.spec.name, "python");
    CHECK_EQ(f.spec.sessions_max, 50);
    CHECK_EQ(f.spec.ready_target, 7);
    CHECK_EQ(f.spec.cooldown_ms, 600000);
    CHECK_EQ(f.spec.lifecycle, WORKER_LIFECYCLE_TIMED);
    CHECK_EQ(f.cpus, 2);
    CHECK_EQ(f.memory_mib, 512);
    CHECK_EQ(base_buf_size(&f.warnings), 0);
    worker_pool_file_deinit(&f);
}

TEST(the_older_lifecycle_other_spellings_of_case_and_nulls)
{
    struct worker_pool_file f =
        parsed("{\"NAME\":\"shell-1\",\"Properties\":{\"containertype\":\"shell\",\"secrets\":null,"
               "\"dynamicPoolConfiguration\":{\"executionType\":\"timed\","
               "\"coolDownPeriodInSeconds\":300}}}");
    CHECK_EQ(f.container, PROTO_POOL_SHELL);
    CHECK_EQ(f.spec.cooldown_ms, 300000);
    CHECK_EQ(f.spec.sessions_max, 10);
    CHECK_EQ(f.spec.ready_target, 5);
    CHECK_EQ(base_buf_size(&f.warnings), 0);
    worker_pool_file_deinit(&f);
    f = parsed("{\"name\":\"node\",\"properties\":{\"containerType\":\"NodeLTS\","
               "\"scaleConfiguration\":{\"maxConcurrentSessions\":2},"
               "\"dynamicPoolConfiguration\":{\"lifecycleConfiguration\":{\"lifecycleType\":"
               "\"OnContainerExit\",\"maxAlivePeriodInSeconds\":86400}}}}");
    CHECK_EQ(f.spec.lifecycle, WORKER_LIFECYCLE_ON_EXIT);
    CHECK_EQ(f.spec.alive_ms_max, 86400000);
    CHECK_EQ(f.spec.ready_target, 2);
    worker_pool_file_deinit(&f);
}

TEST(unknown_and_unused_fields_are_named_in_warnings)
{
    struct worker_pool_file f =
        parsed("{\"name\":\"python\",\"colour\":1,\"properties\":{\"maxSessions\":3,"
               "\"secrets\":[],\"scaleConfiguration\":{\"min\":1},"
               "\"dynamicPoolConfiguration\":{\"cooldownPeriodInSeconds\":5},"
               "\"sessionNetworkConfiguration\":{\"status\":\"EgressEnabled\"}}}");
    CHECK(warned(&f, "colour: unknown"));
    CHECK(warned(&f, "properties.maxSessions: unknown"));
    CHECK(warned(&f, "properties.secrets: not used"));
    CHECK(warned(&f, "properties.scaleConfiguration.min: unknown"));
    CHECK(warned(&f, "properties.dynamicPoolConfiguration.cooldownPeriodInSeconds: outside"));
    CHECK(warned(&f, "sessions have no network"));
    worker_pool_file_deinit(&f);
}

TEST(every_wrong_field_is_refused_by_its_path)
{
    refused("{", "line 1");
    refused("{\"name\":\"python\",\"name\":\"x\"}", "line 1");
    refused("[]", "pool file: must be an object");
    refused("{}", "name: is missing");
    refused("{\"name\":\"Python\"}", "name: must be 3 to 63");
    refused("{\"name\":7}", "name: must be a string");
    refused("{\"name\":\"python\",\"Name\":\"python\"}", "Name: is there twice");
#define IN(what) "{\"name\":\"python\",\"properties\":{" what "}}"
    refused(IN("\"containerType\":\"CustomContainer\""), "properties.containerType: 'Custom");
    refused(IN("\"poolManagementType\":\"Manual\""), "properties.poolManagementType: only");
    refused(IN("\"scaleConfiguration\":[]"), "properties.scaleConfiguration: must be an object");
    refused(IN("\"scaleConfiguration\":{\"maxConcurrentSessions\":0}"),
        "properties.scaleConfiguration.maxConcurrentSessions: 0 is out of range");
    refused(IN("\"scaleConfiguration\":{\"maxConcurrentSessions\":\"5\"}"),
        "properties.scaleConfiguration.maxConcurrentSessions: must be a whole number");
    refused(IN("\"scaleConfiguration\":{\"maxConcurrentSessions\":3,\"readySessionInstances\":4}"),
        "properties.scaleConfiguration.readySessionInstances: is more");
    refused(IN("\"dynamicPoolConfiguration\":{\"executionType\":\"Forever\"}"),
        "properties.dynamicPoolConfiguration.executionType: must be 'Timed'");
    refused(IN("\"dynamicPoolConfiguration\":{\"cooldownPeriodInSeconds\":400,"
               "\"lifecycleConfiguration\":{\"cooldownPeriodInSeconds\":500}}"),
        "properties.dynamicPoolConfiguration.lifecycleConfiguration.cooldownPeriodInSeconds: diff");
    refused(IN("\"dynamicPoolConfiguration\":{\"cooldownPeriodInSeconds\":-1}"),
        "properties.dynamicPoolConfiguration.cooldownPeriodInSeconds: -1 is out of range");
    refused(IN("\"dynamicPoolConfiguration\":{\"executionType\":\"OnContainerExit\","
               "\"cooldownPeriodInSeconds\":400}"),
        "properties.dynamicPoolConfiguration: cooldownPeriodInSeconds does not go");
    refused(IN("\"sessionNetworkConfiguration\":{\"status\":\"On\"}"),
        "properties.sessionNetworkConfiguration.status: must be");
    refused(IN("\"resources\":{\"cpu\":0}"), "properties.resources.cpu: must");
    refused(IN("\"resources\":{\"memory\":\"1Ti\"}"), "properties.resources.memory: must");
    refused(IN("\"resources\":{\"memory\":\"nanMi\"}"), "properties.resources.memory: must");
    refused(IN("\"resources\":{\"memory\":\"1e9Gi\"}"), "properties.resources.memory: must");
    refused(IN("\"resources\":{\"memory\":512}"), "properties.resources.memory: must");
#undef IN
}

TEST(a_pool_file_that_is_not_there_or_too_long)
{
    struct worker_pool_file f;
    struct base_error err;
    CHECK_EQ(worker_pool_file_load("/nonexistent.json", &f, &err), -ENOENT);
    CHECK(strstr(err.text, "/nonexistent.json") != NULL);
    CHECK_EQ(worker_pool_file_parse("", PROTO_POOL_FILE_BYTES_MAX + 1, &f, &err), BASE_ETOOBIG);
}

/* --- worker.yaml --------------------------------------------------------------------------- */

static const char good[] = "name: w1\n"
                           "id: 1\n"
                           "state_dir: /var/lib/warren   # a remark\n"
                           "run_dir: /run/warren\n"
                           "ctl: tcp://127.0.0.1:7101\n"
                           "bulk: tcp://127.0.0.1:7102\n"
                           "curve_secret: /keys/worker-w1.curve\n"
                           "clients: /keys/clients\n"
                           "cluster_key: /keys/cluster.key\n"
                           "image: /images/current\n"
                           "pools: [ /pools/python.json, /pools/shell.json ]\n";

/* The good file with one line replaced (from its key on) and one added. */
static int variant(
    const char *key, const char *line, struct worker_config **c, struct base_error *err)
{
    char text[2048];
    const char *at = key == NULL ? good + strlen(good) : strstr(good, key);
    CHECK(at != NULL);
    const char *rest = *at == '\0' ? at : strchr(at, '\n') + 1;
    int n = snprintf(
        text, sizeof text, "%.*s%s%s%s", (int)(at - good), good, line, *line ? "\n" : "", rest);
    return worker_config_parse(text, (size_t)n, c, err);
}

static void not_accepted(const char *key, const char *line, const char *why)
{
    struct worker_config *c = NULL;
    struct base_error err = {0, ""};
    CHECK_EQ(variant(key, line, &c, &err), BASE_EINVAL);
    if (strstr(err.text, why) == NULL) {
        (void)fprintf(stderr, "says: %s\n", err.text);
    }
    CHECK(strstr(err.text, why) != NULL);
    CHECK(c == NULL);
}

TEST(a_good_configuration_with_defaults)
{
    struct worker_config *c = NULL;
    CHECK_EQ(variant(NULL, "", &c, NULL), 0);
    CHECK_STR(c->name, "w1");
    CHECK_EQ(c->id, 1);
    CHECK_STR(c->state_dir, "/var/lib/warren");
    CHECK_EQ(c->pools_count, 2);
    CHECK_STR(c->pools[1], "/pools/shell.json");
    CHECK_EQ(c->freeze_s, 10);
    CHECK_EQ(c->kill_s, 60);
    CHECK(!c->leased);
    CHECK_EQ(c->uid_base, 200000);
    CHECK_EQ(c->accelerator, WORKER_ACCEL_AUTO);
    CHECK_EQ(c->log_level, BASE_LOG_INFO);
    worker_config_destroy(c);
    CHECK_EQ(variant(NULL, "accelerator: tcg\nlog_level: debug\nfreeze_s: 3", &c, NULL), 0);
    CHECK_EQ(c->accelerator, WORKER_ACCEL_TCG);
    CHECK_EQ(c->log_level, BASE_LOG_DEBUG);
    CHECK_EQ(c->freeze_s, 3);
    worker_config_destroy(c);
    CHECK_EQ(variant(NULL, "lease: cluster", &c, NULL), 0);
    CHECK(c->leased);
    worker_config_destroy(c);
    worker_config_destroy(NULL);
}

TEST(quotas_of_tenants_and_of_one)
{
    static const uint8_t key[16] = {5};
    struct worker_config *c = NULL;
    struct worker_quota_limits each;
    struct worker_quota_tenant one;
    struct proto_tenant acme;
    CHECK_EQ(variant(NULL, "", &c, NULL), 0);
    worker_config_quota(c, &each);
    CHECK_EQ(each.max[WORKER_QUOTA_SESSIONS], 0);
    CHECK_EQ(each.max[WORKER_QUOTA_EXECUTIONS], 1024);
    CHECK_EQ(each.max[WORKER_QUOTA_REQUESTS], 4096);
    CHECK_EQ(each.max[WORKER_QUOTA_BYTES], 128 << 20);
    worker_config_destroy(c);
    CHECK_EQ(variant(NULL,
                 "tenant_quota: {sessions: 3, queued_mib: 2}\n"
                 "tenant_quotas:\n"
                 "  - {issuer: \"https://idp\", tenant: acme, executions: 7, weight: 4}",
                 &c, NULL),
        0);
    worker_config_quota(c, &each);
    CHECK_EQ(each.max[WORKER_QUOTA_SESSIONS], 3);
    CHECK_EQ(each.max[WORKER_QUOTA_EXECUTIONS], 0);
    CHECK_EQ(each.max[WORKER_QUOTA_BYTES], 2 << 20);
    worker_config_tenant(c, key, 0, &one);
    proto_tenant_of(key, "https://idp", "acme", &acme);
    CHECK_EQ(memcmp(&one.tenant, &acme, sizeof acme), 0);
    CHECK_EQ(one.limits.max[WORKER_QUOTA_EXECUTIONS], 7);
    CHECK_EQ(one.limits.weight, 4);
    worker_config_destroy(c);
}

TEST(wrong_configurations_are_refused_by_key_and_line)
{
    not_accepted(NULL, "tenant_quota: {weight: 1001}", "tenant_quota: queued_mib: at most");
    not_accepted(NULL, "tenant_quota: {session: 1}", "unknown key 'session'");
    not_accepted(NULL, "tenant_quotas: [{issuer: a}]", "tenant");
    not_accepted(
        NULL, "tenant_quotas: [{issuer: a, tenant: b}, {issuer: a, tenant: b}]", "entries 1 and 2");
    not_accepted(NULL, "colour: red", "line 12: unknown key 'colour'");
    not_accepted("run_dir", "colour: red", "line 4: unknown key 'colour'");
    not_accepted("id:", "id: one", "line 2");
    not_accepted("id:", "id: 0", "id: must not be 0");
    not_accepted("name:", "name: W1", "name: must be");
    not_accepted("image:", "", "Missing required mapping field: image");
    not_accepted("image:", "image: current", "image: must be an absolute path");
    not_accepted("pools:", "pools: [ a.json ]", "pools: entry 1");
    not_accepted("ctl:", "ctl: ipc:///x", "ctl: must be like");
    not_accepted("clients:", "", "clients: is missing");
    not_accepted(NULL, "accelerator: gpu", "accelerator: must be");
    not_accepted(NULL, "log_level: loud", "log_level: must be");
    not_accepted(NULL, "lease: maybe", "lease: must be");
    not_accepted(NULL, "cluster: /c.yaml", "cluster: needs lease: cluster");
    not_accepted(NULL, "lease: cluster\ncluster: c.yaml", "cluster: must be an absolute path");
    not_accepted(NULL, "freeze_s: 4000", "freeze_s: at most");
    not_accepted(NULL, "freeze_s: -1", "line 12");
    not_accepted(NULL, "uid_base: 5", "uid_base: must be");
    not_accepted(NULL, "name: w2", "already seen");
    not_accepted("name:", "name: [", "line");
}

TEST(plaintext_is_for_loopback_only)
{
    struct worker_config *c = NULL;
    CHECK_EQ(variant("clients:", "insecure_plaintext: true", &c, NULL), 0);
    worker_config_destroy(c);
    c = NULL;
    struct base_error err;
    char text[2048];
    (void)snprintf(text, sizeof text, "%sinsecure_plaintext: true\n", good);
    char *at = strstr(text, "127.0.0.1:7102");
    CHECK(at != NULL);
    memcpy(at, "192.0.2.11:710", 14);
    CHECK_EQ(worker_config_parse(text, strlen(text), &c, &err), BASE_EINVAL);
    CHECK(strstr(err.text, "must be loopback") != NULL);
}

TEST(an_empty_or_absent_file)
{
    struct worker_config *c = NULL;
    struct base_error err;
    CHECK_EQ(worker_config_parse("", 0, &c, &err), BASE_EINVAL);
    CHECK_EQ(worker_config_parse("# nothing\n", 10, &c, &err), BASE_EINVAL);
    CHECK_EQ(worker_config_load("/nonexistent.yaml", &c, &err), -ENOENT);
}

TEST(the_mcp_switch_of_a_pool_in_any_case)
{
    struct worker_pool_file f = parsed("{\"name\":\"python\",\"properties\":{}}");
    CHECK(!f.mcp);
    worker_pool_file_deinit(&f);
    f = parsed("{\"name\":\"python\",\"properties\":{\"mcPServerSettings\":{"
               "\"isMCpServerEnabled\":true,\"mcpServerEndpoint\":null}}}");
    CHECK(f.mcp && !f.mcp_extended && base_buf_size(&f.warnings) == 0);
    worker_pool_file_deinit(&f);
    f = parsed("{\"name\":\"python\",\"properties\":{\"mcpServerSettings\":{"
               "\"isMcpServerEnabled\":true,\"tools\":\"Extended\"}}}");
    CHECK(f.mcp_extended && base_buf_size(&f.warnings) == 0);
    worker_pool_file_deinit(&f);
    refused("{\"name\":\"python\",\"properties\":{\"mcpServerSettings\":{\"tools\":\"all\"}}}",
        "properties.mcpServerSettings.tools");
    refused("{\"name\":\"python\",\"properties\":{\"mcpServerSettings\":{"
            "\"isMcpServerEnabled\":\"yes\"}}}",
        "properties.mcpServerSettings.isMcpServerEnabled");
}
