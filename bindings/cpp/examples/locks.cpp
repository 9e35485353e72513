#include <corering/recipes.hpp>
#include <iostream>

int main() {
    auto db = corering::db::open("locks-data");
    auto session = db.new_session(); // kept alive by a thread of its own until it goes
    {
        auto lock = session.acquire("{account}lock");
        db.put("{account}balance", "90", corering::guarded_by(lock)); // refused by the store if the lock was lost
        std::cout << "token " << lock.token() << "\n";
    } // given back here

    corering::election leaders(db, session, "cleaner");
    auto leadership = leaders.campaign("this process");
    std::cout << *leaders.leader() << " leads\n";
}
