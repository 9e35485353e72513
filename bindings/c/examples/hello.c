#include <corering.h>
#include <stdio.h>

int main(void)
{
    corering_db *db;
    corering_value value;
    if (corering_open(CORERING_ABI_VERSION, "hello-data", NULL, &db) != CORERING_OK) return 1;
    corering_put(db, "greeting", 8, "hello from C", 12, NULL, NULL); /* durable when it returns */
    if (corering_get(db, "greeting", 8, NULL, &value) == CORERING_OK) printf("%.*s\n", (int)value.len, (const char *)value.data);
    corering_value_free(&value);
    return corering_close(db);
}
